// SPDX-License-Identifier: Apache-2.0

package snap

// orderServices sorts services (given by name) so that each comes after what
// it must start after. Members of a cycle keep their given order.
func orderServices(in []*App) []*App {
	named := map[string]*App{}
	for _, a := range in {
		named[a.Name] = a
	}
	earlier := map[string][]string{}
	for _, a := range in {
		earlier[a.Name] = append(earlier[a.Name], a.After...)
		for _, b := range a.Before {
			earlier[b] = append(earlier[b], a.Name)
		}
	}
	var out []*App
	seen := map[string]bool{}
	var visit func(a *App)
	visit = func(a *App) {
		if a == nil || seen[a.Name] {
			return
		}
		seen[a.Name] = true
		for _, n := range earlier[a.Name] {
			visit(named[n])
		}
		out = append(out, a)
	}
	for _, a := range in {
		visit(a)
	}
	return out
}
