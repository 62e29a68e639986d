// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"net/http"
	"slices"

	"endured/client"
	"endured/interfaces"
	"endured/overlord/snapstate"
	"endured/snap"
)

func plugRef(e interfaces.End) client.PlugRef { return client.PlugRef{Snap: e.Snap, Name: e.Name} }
func slotRef(e interfaces.End) client.SlotRef { return client.SlotRef{Snap: e.Snap, Name: e.Name} }

func plugJSON(p *snap.Plug, conns []*interfaces.Connection) client.Plug {
	out := client.Plug{Snap: p.Snap.Name, Name: p.Name, Interface: p.Interface, Attrs: p.Attrs, Apps: p.Apps, Label: p.Label}
	for _, c := range conns {
		if c.Plug == p {
			out.Connections = append(out.Connections, slotRef(c.Ref.Slot))
		}
	}
	return out
}

func slotJSON(s *snap.Slot, conns []*interfaces.Connection) client.Slot {
	out := client.Slot{Snap: s.Snap.Name, Name: s.Name, Interface: s.Interface, Attrs: s.Attrs, Apps: s.Apps, Label: s.Label}
	for _, c := range conns {
		if c.Slot == s {
			out.Connections = append(out.Connections, plugRef(c.Ref.Plug))
		}
	}
	return out
}

func connectionJSON(list []*interfaces.Connection, wanted func(*interfaces.Connection) bool) []client.Connection {
	out := []client.Connection{}
	for _, c := range list {
		if wanted(c) {
			out = append(out, client.Connection{
				Plug: plugRef(c.Ref.Plug), Slot: slotRef(c.Ref.Slot), Interface: c.Plug.Interface, Manual: !c.Auto,
				PlugAttrs: c.Plug.Attrs, SlotAttrs: c.Slot.Attrs,
			})
		}
	}
	return out
}

// getConnections lists connections, with their plugs and slots; select=all adds
// those that are not connected and the connections that were taken away.
func getConnections(c *call) *response {
	q := c.URL.Query()
	all, name, iface := false, q.Get("snap"), q.Get("interface")
	switch sel := q.Get("select"); sel {
	case "":
	case "all":
		all = true
	default:
		return badSelect(sel, "all")
	}
	if name != "" && !interfaces.IsSystem(name) {
		views, err := c.snaps([]string{name}, false)
		if err != nil {
			return failureOr(err, http.StatusInternalServerError)
		}
		if len(views) == 0 {
			return notFound(name, (&snapstate.NotInstalledError{Snap: name}).Error())
		}
	} else if name != "" {
		name = interfaces.System
	}
	repo, err := c.d.backend.Repository()
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	wanted := func(c *interfaces.Connection) bool {
		return (name == "" || c.Ref.Plug.Snap == name || c.Ref.Slot.Snap == name) && (iface == "" || c.Plug.Interface == iface)
	}
	conns := slices.DeleteFunc(repo.Connections(), func(c *interfaces.Connection) bool { return !wanted(c) })
	out := client.Connections{Established: connectionJSON(conns, wanted), Plugs: []client.Plug{}, Slots: []client.Slot{}}
	if all {
		out.Undesired = connectionJSON(repo.Undesired(), wanted)
	}
	shown := func(owner, of string, connected int) bool {
		return (iface == "" || of == iface) && (connected > 0 || all && (name == "" || owner == name))
	}
	for _, p := range repo.Plugs() {
		if j := plugJSON(p, conns); shown(j.Snap, j.Interface, len(j.Connections)) {
			out.Plugs = append(out.Plugs, j)
		}
	}
	for _, s := range repo.Slots() {
		if j := slotJSON(s, conns); shown(j.Snap, j.Interface, len(j.Connections)) {
			out.Slots = append(out.Slots, j)
		}
	}
	return sync200(out)
}

// getInterfaces lists interfaces. Without select= the answer has the shape that
// snapd kept for old clients: all plugs and slots.
func getInterfaces(c *call) *response {
	q := c.URL.Query()
	repo, err := c.d.backend.Repository()
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	conns := repo.Connections()
	all := false
	switch sel := q.Get("select"); sel {
	case "":
		out := client.Connections{Plugs: []client.Plug{}, Slots: []client.Slot{}}
		for _, p := range repo.Plugs() {
			out.Plugs = append(out.Plugs, plugJSON(p, conns))
		}
		for _, s := range repo.Slots() {
			out.Slots = append(out.Slots, slotJSON(s, conns))
		}
		return sync200(map[string]any{"plugs": out.Plugs, "slots": out.Slots})
	case "all":
		all = true
	case "connected":
	default:
		return badSelect(sel, "all", "connected")
	}
	names := commaList(q.Get("names"))
	out := []client.Interface{}
	for _, i := range repo.Interfaces() {
		if len(names) > 0 && !slices.Contains(names, i.Name) {
			continue
		}
		j := client.Interface{Name: i.Name, Summary: i.Summary}
		for _, p := range repo.Plugs() {
			if p.Interface == i.Name && q.Get("plugs") == "true" {
				j.Plugs = append(j.Plugs, plugJSON(p, conns))
			}
		}
		for _, s := range repo.Slots() {
			if s.Interface == i.Name && q.Get("slots") == "true" {
				j.Slots = append(j.Slots, slotJSON(s, conns))
			}
		}
		if all || slices.ContainsFunc(conns, func(c *interfaces.Connection) bool { return c.Plug.Interface == i.Name }) {
			out = append(out, j)
		}
	}
	return sync200(out)
}

// postInterfaces connects or disconnects.
func postInterfaces(c *call) *response {
	var r client.InterfaceRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if r.Action == "" {
		return badRequest("cannot change connections: the request has no action; want connect or disconnect")
	}
	if len(r.Plugs) > 1 || len(r.Slots) > 1 {
		return badRequest("cannot %s %d plugs and %d slots in one request: want one of each", quoted(r.Action), len(r.Plugs), len(r.Slots))
	}
	if r.Action != "connect" && r.Action != "disconnect" {
		return badRequest("cannot change connections with %q: want connect or disconnect", r.Action)
	}
	if len(r.Plugs) == 0 || len(r.Slots) == 0 {
		return badRequest("cannot %s: want one plug and one slot, of which parts may be empty", r.Action)
	}
	plug := interfaces.End{Snap: r.Plugs[0].Snap, Name: r.Plugs[0].Name}
	slot := interfaces.End{Snap: r.Slots[0].Snap, Name: r.Slots[0].Name}
	if r.Action == "connect" {
		return async(c.d.backend.Connect(c.Context(), plug, slot))
	}
	return async(c.d.backend.Disconnect(c.Context(), plug, slot, r.Forget))
}
