// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"endured/client"
	"endured/overlord/lifecycle"
	"endured/overlord/recipes"
	"endured/overlord/servicestate"
	"endured/overlord/snapstate"
	"endured/snap"
)

// appsFailure is failure with snapd's words for a snap that is not there.
func appsFailure(err error) *response {
	var missing *snapstate.NotInstalledError
	if errors.As(err, &missing) {
		return notFound(missing.Snap, fmt.Sprintf("snap %q not found", missing.Snap))
	}
	return failure(err)
}

// getApps lists services, or with another select the other apps too.
func getApps(c *call) *response {
	q := c.URL.Query()
	names := commaList(q.Get("names"))
	switch sel := q.Get("select"); sel {
	case "", "service":
	default:
		return badSelect(sel, "service")
	}
	services, err := c.d.backend.ServiceViews(c.Context(), names)
	if err != nil {
		return appsFailure(err)
	}
	out := []client.AppInfo{}
	for _, s := range services {
		out = append(out, serviceJSON(c, s))
	}
	if q.Get("select") == "service" || len(names) > 0 {
		return sync200(out)
	}
	views, err := c.d.backend.Snaps(c.Context(), nil, false)
	if err != nil {
		return failureOr(err, http.StatusInternalServerError)
	}
	for _, v := range views {
		for _, a := range appsJSON(v.Info) {
			if a.Daemon == "" {
				out = append(out, a)
			}
		}
	}
	return sync200(out)
}

func postApps(c *call) *response {
	var r client.AppsRequest
	if resp := decodeBody(c, &r); resp != nil {
		return resp
	}
	if len(r.Names) == 0 {
		return badRequest("cannot control services: none is named; want names such as web, for all of a snap, or web.server")
	}
	req := recipes.ServicesRequest{Names: r.Names, Enable: r.Enable, Disable: r.Disable, Reload: r.Reload}
	switch r.Action {
	case "start":
		req.Event = lifecycle.Start
	case "stop":
		req.Event = lifecycle.Stop
	case "restart":
		req.Event = lifecycle.Restart
	default:
		return badRequest("cannot control services with %q: want start, stop or restart", r.Action)
	}
	if r.Enable && r.Action != "start" || r.Disable && r.Action != "stop" || r.Reload && r.Action != "restart" {
		return badRequest("cannot %s: enable is for start, disable for stop and reload for restart", r.Action)
	}
	id, err := c.d.backend.Services(c.Context(), req)
	if err != nil {
		return appsFailure(err)
	}
	return async(id, nil)
}

// appsJSON lists the apps of a snap without asking systemd about services.
func appsJSON(info *snap.Info) []client.AppInfo {
	if info == nil {
		return nil
	}
	var out []client.AppInfo
	for _, a := range info.SortedApps() {
		ai := client.AppInfo{Snap: info.Name, Name: a.Name, Daemon: a.Daemon}
		if a.IsService() {
			ai.DaemonScope = "system"
		}
		out = append(out, ai)
	}
	return out
}

func serviceJSON(c *call, v servicestate.View) client.AppInfo {
	out := client.AppInfo{
		Snap: v.Snap, Name: v.App, Daemon: v.Daemon, DaemonScope: "system",
		Enabled: v.Enabled, Active: v.Active, RefreshMode: v.Mode,
	}
	if !v.Revision.Unset() {
		out.RunningRevision = v.Revision.String()
	}
	if !v.Current.Unset() {
		out.CurrentRevision = v.Current.String()
	}
	if c.root() {
		out.MainPID = v.MainPID
	}
	out.Seal = string(v.Seal)
	for _, why := range v.SealWhy {
		out.SealWhy = append(out.SealWhy, c.text(why))
	}
	for _, why := range v.SealLimits {
		out.SealLimits = append(out.SealLimits, c.text(why))
	}
	for _, a := range v.Activators {
		out.Activators = append(out.Activators, client.Activator{Name: a.Name, Type: a.Type, Active: a.Active, Enabled: a.Enabled})
	}
	for _, g := range v.Generations {
		left := client.Generation{Unit: g.Unit, Revision: g.Revision.String(), Processes: len(g.PIDs), Seal: string(g.Seal)}
		for _, why := range g.SealWhy {
			left.SealWhy = append(left.SealWhy, c.text(why))
		}
		if c.root() {
			left.PIDs = g.PIDs
		}
		out.Generations = append(out.Generations, left)
	}
	return out
}

func snapJSON(c *call, v recipes.SnapView) client.Snap {
	rev := v.Rev.Revision
	out := client.Snap{
		Name: v.Record.Name, Revision: rev.String(), Type: "app", Status: "installed",
		InstalledSize: v.Rev.Size,
		DevMode:       v.Rev.Flags.DevMode, JailMode: v.Rev.Flags.JailMode, Classic: v.Rev.Flags.Classic,
	}
	if v.Current {
		out.Status = "active"
	}
	if until, held := v.Record.HeldUntil(time.Now()); held && v.Current {
		if until.IsZero() {
			until = client.Forever()
		}
		out.Hold = &until
	}
	if h := v.Record.Health; h != nil && v.Current {
		out.Health = &client.Health{Revision: h.Revision.String(), Status: h.Status, Message: h.Message, Code: h.Code, Timestamp: h.Timestamp}
	}
	if out.Channel = v.Rev.Channel; !rev.Local() {
		out.TrackingChannel = v.Record.Channel
	}
	if !v.Rev.Installed.IsZero() {
		when := v.Rev.Installed
		out.InstallDate = &when
	}
	if c.root() {
		out.MountedFrom = c.d.options.Dirs.Blob(v.Record.Name, rev)
	}
	if v.Info == nil {
		out.Broken = "cannot read its snap.yaml"
		return out
	}
	describe(&out, v.Info)
	out.PartlyConfined = !v.Confined && v.Info.Confinement == "strict" && !out.DevMode && !out.Classic
	return out
}

// describe adds what the snap's metadata says.
func describe(out *client.Snap, i *snap.Info) {
	out.Title, out.Summary, out.Description, out.License = i.Title, i.Summary, i.Description, i.License
	out.Version, out.Base, out.Confinement, out.Notes = i.Version, i.Base, i.Confinement, i.Notes
	if i.Type != "" {
		out.Type = i.Type
	}
	out.Apps = appsJSON(i)
}
