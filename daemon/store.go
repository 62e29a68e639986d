// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"net/http"
	"slices"

	"endured/client"
	"endured/overlord/recipes"
	"endured/overlord/snapstate"
	"endured/snap"
	"endured/store"
)

// storeOptions checks how snaps are to come from the store.
func storeOptions(r client.SnapRequest) (recipes.StoreOptions, *response) {
	rev, resp := revision(r.Revision)
	if resp != nil {
		return recipes.StoreOptions{}, resp
	}
	if resp := oneMode(r.InstallOptions); resp != nil {
		return recipes.StoreOptions{}, resp
	}
	together, resp := allSnaps(r.Transaction)
	if resp != nil {
		return recipes.StoreOptions{}, resp
	}
	if rev.Local() {
		return recipes.StoreOptions{}, badRequest("cannot take revision %s from the store: it is a local one", rev)
	}
	return recipes.StoreOptions{
		Flags:   snapstate.Flags{DevMode: r.DevMode, Classic: r.Classic, JailMode: r.JailMode},
		Channel: r.Channel, Revision: rev, Amend: r.Amend, Together: together,
	}, nil
}

// allSnaps reads whether several snaps stand or fall together.
func allSnaps(transaction string) (bool, *response) {
	switch transaction {
	case "", "per-snap":
		return false, nil
	case "all-snaps":
		return true, nil
	}
	return false, badRequest("cannot use transaction %q: want per-snap or all-snaps", transaction)
}

// installNames installs snaps from the store.
func installNames(c *call, names []string, r client.SnapRequest) *response {
	o, resp := storeOptions(r)
	if resp != nil {
		return resp
	}
	if len(names) == 0 {
		return badRequest("cannot install: no snap named")
	}
	if r.DryRun {
		return plans(c.d.backend.PlanInstallNames(c.Context(), names, o))
	}
	return async(c.d.backend.InstallNames(c.Context(), names, o))
}

// refresh refreshes snaps from the store, all of them if none is named.
func refresh(c *call, names []string, r client.SnapRequest) *response {
	o, resp := storeOptions(r)
	if resp != nil {
		return resp
	}
	if len(names) != 1 && (r.Channel != "" || r.Revision != "" || r.Amend) {
		return badRequest("cannot refresh several snaps to one channel or revision")
	}
	if r.DryRun {
		return plans(c.d.backend.PlanRefresh(c.Context(), names, o))
	}
	return async(c.d.backend.Refresh(c.Context(), names, o))
}

func switchChannel(c *call, name string, r client.SnapRequest) *response {
	if r.Channel == "" {
		return badRequest("cannot switch %q: no channel named", name)
	}
	return async(c.d.backend.SwitchChannel(c.Context(), name, r.Channel))
}

// getFind asks the store: for the refreshes that are possible, for one snap by
// name, or for those that match words.
func getFind(c *call) *response {
	q := c.URL.Query()
	switch sel := q.Get("select"); {
	case sel == "refresh":
		return findUpdates(c)
	case sel != "" && sel != "private":
		return badSelect(sel, "refresh", "private")
	case sel == "private":
		return sync200([]client.Snap{})
	case q.Get("name") != "":
		d, err := c.d.backend.Details(c.Context(), q.Get("name"))
		if err != nil {
			return failure(err)
		}
		return sync200([]client.Snap{detailsJSON(d)})
	}
	list, err := c.d.backend.Search(c.Context(), q.Get("q"))
	if err != nil {
		return failure(err)
	}
	out := []client.Snap{}
	for _, d := range list {
		out = append(out, detailsJSON(d))
	}
	return sync200(out)
}

func findUpdates(c *call) *response {
	list, err := c.d.backend.Updates(c.Context())
	if err != nil {
		return failure(err)
	}
	out := []client.Snap{}
	for _, u := range list {
		s := offerJSON(u.Offer, u.Info)
		s.Plan = u.Plan
		if u.Err != nil {
			s.PlanError = c.text(u.Err.Error())
		}
		out = append(out, s)
	}
	return sync200(out)
}

// offerJSON describes a revision of the store; info may be nil.
func offerJSON(o *store.Snap, info *snap.Info) client.Snap {
	out := client.Snap{
		Name: o.Name, Revision: o.Revision.String(), Version: o.Version, Channel: o.Channel, DownloadSize: o.Size,
		Type: "app", Status: "available",
	}
	if info != nil {
		describe(&out, info)
	}
	return out
}

func detailsJSON(d *store.Details) client.Snap {
	info, err := snap.Parse(d.YAML)
	if err != nil {
		info = nil
	}
	out := offerJSON(&d.Snap, info)
	out.Channels = map[string]client.ChannelSnap{}
	for _, r := range d.Releases {
		out.Channels[r.Channel] = client.ChannelSnap{
			Revision: r.Revision.String(), Version: r.Version, Channel: r.Channel, Size: r.Size, Confinement: out.Confinement,
		}
		if c, err := store.ParseChannel(r.Channel); err == nil && !slices.Contains(out.Tracks, c.Track()) {
			out.Tracks = append(out.Tracks, c.Track())
		}
	}
	return out
}

// classifyStore is classify for what the store, or the lack of one, refuses.
func classifyStore(err error) (status int, e *client.Error) {
	var (
		there      *recipes.AlreadyInstalledError
		noUpdate   *recipes.NoUpdateError
		local      *recipes.LocalError
		notFound   *store.NotFoundError
		noRevision *store.RevisionError
		noChannel  *store.ChannelError
	)
	switch {
	case errors.As(err, &there):
		return http.StatusBadRequest, &client.Error{Kind: client.KindAlreadyInstalled, Value: there.Snap}
	case errors.As(err, &noUpdate):
		return http.StatusBadRequest, &client.Error{Kind: client.KindNoUpdate, Value: noUpdate.Snap}
	case errors.As(err, &local):
		return http.StatusBadRequest, &client.Error{Kind: client.KindLocal, Value: local.Snap}
	case errors.As(err, &notFound):
		return http.StatusNotFound, &client.Error{Kind: client.KindNotFound, Value: notFound.Name}
	case errors.As(err, &noRevision):
		return http.StatusNotFound, &client.Error{Kind: client.KindRevisionNotFound, Value: noRevision.Name}
	case errors.As(err, &noChannel):
		return http.StatusNotFound, &client.Error{Kind: client.KindNoChannel, Value: channelValue(noChannel)}
	}
	return 0, &client.Error{}
}

// channelValue is what snapd's client reads of a channel that has nothing.
func channelValue(e *store.ChannelError) map[string]any {
	releases := []map[string]string{}
	for _, open := range e.Open {
		releases = append(releases, map[string]string{"architecture": snap.HostArch(), "channel": open})
	}
	return map[string]any{
		"snap-name": e.Name, "action": "install", "channel": e.Channel.String(),
		"architecture": snap.HostArch(), "releases": releases,
	}
}
