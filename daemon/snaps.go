// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"mime"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"endured/client"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/snap"
)

// commaList reads a query parameter of names.
func commaList(s string) []string {
	var out []string
	for _, n := range strings.Split(s, ",") {
		if n = strings.TrimSpace(n); n != "" {
			out = append(out, n)
		}
	}
	return out
}

// getSnaps lists snaps. Names of snaps that are not installed are passed over.
func getSnaps(c *call) *response {
	q := c.URL.Query()
	all := false
	switch sel := q.Get("select"); sel {
	case "", "enabled":
	case "all":
		all = true
	default:
		return badSelect(sel, "enabled", "all")
	}
	views, err := c.snaps(commaList(q.Get("snaps")), all)
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	out := []client.Snap{}
	for _, v := range views {
		if q.Get("select") == "enabled" && !v.Current {
			continue
		}
		out = append(out, snapJSON(c, v))
	}
	return sync200(out)
}

// snaps asks the backend for snaps, leaving out what is not installed.
func (c *call) snaps(names []string, all bool) ([]recipes.SnapView, error) {
	if len(names) == 0 {
		return c.d.backend.Snaps(c.Context(), nil, all)
	}
	var out []recipes.SnapView
	for i, n := range names {
		if slices.Contains(names[:i], n) {
			continue
		}
		views, err := c.d.backend.Snaps(c.Context(), []string{n}, all)
		var missing *snapstate.NotInstalledError
		if errors.As(err, &missing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, views...)
	}
	return out, nil
}

func getSnap(c *call) *response {
	name := c.PathValue("name")
	views, err := c.snaps([]string{name}, false)
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	if len(views) == 0 {
		return notFound(name, "snap not installed")
	}
	out := snapJSON(c, views[0])
	services, err := c.d.backend.ServiceViews(c.Context(), []string{name})
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	for _, s := range services {
		for i := range out.Apps {
			if out.Apps[i].Name == s.App {
				out.Apps[i] = serviceJSON(c, s)
			}
		}
	}
	return sync200(out)
}

// postSnaps installs an uploaded file, or acts on several snaps.
func postSnaps(c *call) *response {
	contentType, params, err := mime.ParseMediaType(c.Header.Get("Content-Type"))
	if err == nil && contentType == "multipart/form-data" {
		return postUpload(c, params["boundary"])
	}
	var r client.SnapRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	switch {
	case r.Action == "install" && r.Path != "":
		return planInstall(c, r)
	case r.Action == "install":
		return installNames(c, r.Snaps, r)
	case r.Action == "refresh":
		return refresh(c, r.Snaps, r)
	case r.Action == "hold" && !r.DryRun:
		return hold(c, r.Snaps, r)
	case r.Action == "unhold" && !r.DryRun:
		return async(c.d.backend.Unhold(c.Context(), r.Snaps))
	case r.Action == "remove":
		if len(r.Snaps) == 0 {
			return badRequest("cannot remove: no snap named")
		}
		return remove(c, r.Snaps, r)
	case r.DryRun:
		return badRequest("cannot plan %q: a dry run knows install, refresh, revert and remove", r.Action)
	}
	if knownAction(r.Action) {
		return badRequest("cannot %s several snaps in one request: install, refresh, remove, hold and unhold can be asked for so", r.Action)
	}
	return badAction(r.Action)
}

// postSnap acts on one snap.
func postSnap(c *call) *response {
	name := c.PathValue("name")
	var r client.SnapRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if r.DryRun && !slices.Contains([]string{"install", "refresh", "revert", "remove"}, r.Action) {
		return badRequest("cannot plan %q: a dry run knows install, refresh, revert and remove", r.Action)
	}
	switch r.Action {
	case "revert":
		return revert(c, name, r)
	case "remove":
		return remove(c, []string{name}, r)
	case "enable":
		return async(c.d.backend.Enable(c.Context(), name))
	case "disable":
		return async(c.d.backend.Disable(c.Context(), name))
	case "install":
		return installNames(c, []string{name}, r)
	case "refresh":
		return refresh(c, []string{name}, r)
	case "switch":
		return switchChannel(c, name, r)
	case "hold":
		return hold(c, []string{name}, r)
	case "unhold":
		return async(c.d.backend.Unhold(c.Context(), []string{name}))
	}
	if knownAction(r.Action) {
		return badRequest("cannot %s snap %q: this version cannot do that yet", r.Action, name)
	}
	return badAction(r.Action)
}

// knownAction tells actions that snapd has from nonsense.
func knownAction(a string) bool {
	switch a {
	case "install", "refresh", "remove", "revert", "enable", "disable",
		"switch", "hold", "unhold", "try", "snapshot":
		return true
	}
	return false
}

// The levels of a hold.
const (
	// holdAuto is for refreshes that begin by themselves.
	holdAuto = "auto-refresh"
	// holdGeneral is for 'snap refresh' of all snaps, too.
	holdGeneral = "general"
)

// hold checks until when snaps are to be held, and how much.
func hold(c *call, names []string, r client.SnapRequest) *response {
	h := snapstate.Hold{General: r.HoldLevel == holdGeneral}
	switch {
	case r.HoldLevel != holdAuto && r.HoldLevel != holdGeneral:
		return badRequest("cannot hold refreshes with hold-level %q: want %s or %s", r.HoldLevel, holdGeneral, holdAuto)
	case h.General && len(names) == 0:
		return badRequest("cannot hold every 'snap refresh': name snaps, or hold at level %s", holdAuto)
	}
	if r.Time != "forever" {
		until, err := time.Parse(time.RFC3339, r.Time)
		if err != nil || !until.After(time.Now()) {
			return badRequest("cannot hold refreshes until %q: want a time to come such as 2030-01-31T10:00:00Z, or forever", r.Time)
		}
		h.Until = until
	}
	return async(c.d.backend.Hold(c.Context(), names, h))
}

// revision reads an optional revision.
func revision(s string) (snap.Revision, *response) {
	if s == "" || s == "unset" {
		return 0, nil
	}
	rev, err := snap.ParseRevision(s)
	if err != nil {
		return 0, badRequest("%v", err)
	}
	return rev, nil
}

// plans answers a dry run.
func plans(list []*lifecycle.Plan, err error) *response {
	if err != nil {
		return failure(err)
	}
	resp := sync200(map[string]any{"plans": list})
	resp.harmless = true
	return resp
}

func onePlan(p *lifecycle.Plan, err error) *response { return plans([]*lifecycle.Plan{p}, err) }

func revert(c *call, name string, r client.SnapRequest) *response {
	rev, resp := revision(r.Revision)
	if resp != nil {
		return resp
	}
	if r.DryRun {
		return onePlan(c.d.backend.PlanRevert(c.Context(), name, rev))
	}
	return async(c.d.backend.Revert(c.Context(), name, rev))
}

func remove(c *call, names []string, r client.SnapRequest) *response {
	rev, resp := revision(r.Revision)
	if resp != nil {
		return resp
	}
	if !rev.Unset() && len(names) != 1 {
		return badRequest("cannot remove a revision of several snaps")
	}
	o := recipes.RemoveOptions{Purge: r.Purge, Terminate: r.Terminate, Revision: rev}
	if r.DryRun {
		return plans(c.d.backend.PlanRemove(c.Context(), names, o))
	}
	return async(c.d.backend.Remove(c.Context(), names, o))
}

// oneMode refuses more than one mode of confinement.
func oneMode(o client.InstallOptions) *response {
	modes := 0
	for _, set := range []bool{o.DevMode, o.Classic, o.JailMode} {
		if set {
			modes++
		}
	}
	if modes > 1 {
		return badRequest("cannot use more than one of devmode, classic and jailmode")
	}
	return nil
}

// installOptions checks how a file is to be installed.
func installOptions(o client.InstallOptions, name string) (recipes.InstallOptions, *response) {
	if resp := oneMode(o); resp != nil {
		return recipes.InstallOptions{}, resp
	}
	if !o.Dangerous && !o.DevMode {
		return recipes.InstallOptions{}, badRequest("cannot find signatures with metadata for snap %q", name)
	}
	return recipes.InstallOptions{Name: name, Flags: snapstate.Flags{
		Dangerous: o.Dangerous, DevMode: o.DevMode, Classic: o.Classic, JailMode: o.JailMode,
	}}, nil
}

func planInstall(c *call, r client.SnapRequest) *response {
	if !r.DryRun {
		return badRequest("cannot install by path: send the file")
	}
	if !filepath.IsAbs(r.Path) {
		return badRequest("cannot plan install: want the absolute path of a file, got %q", r.Path)
	}
	o, resp := installOptions(r.InstallOptions, r.Path)
	if resp != nil {
		return resp
	}
	return onePlan(c.d.backend.PlanInstallFile(c.Context(), filepath.Clean(r.Path), o))
}
