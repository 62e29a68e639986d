// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Snap is one installed revision.
type Snap struct {
	ID              string     `json:"id"`
	Name            string     `json:"name"`
	Title           string     `json:"title,omitempty"`
	Summary         string     `json:"summary"`
	Description     string     `json:"description"`
	Version         string     `json:"version"`
	Revision        string     `json:"revision"` // "7" or "x1"
	Type            string     `json:"type"`
	Base            string     `json:"base,omitempty"`
	License         string     `json:"license,omitempty"`
	Status          string     `json:"status"` // "active" or "installed"
	Confinement     string     `json:"confinement"`
	DevMode         bool       `json:"devmode"`
	JailMode        bool       `json:"jailmode"`
	TryMode         bool       `json:"trymode"`
	Private         bool       `json:"private"`
	Broken          string     `json:"broken,omitempty"`
	Channel         string     `json:"channel,omitempty"`
	TrackingChannel string     `json:"tracking-channel,omitempty"`
	Publisher       *Publisher `json:"publisher,omitempty"`
	InstalledSize   int64      `json:"installed-size,omitempty"`
	InstallDate     *time.Time `json:"install-date,omitempty"`
	MountedFrom     string     `json:"mounted-from,omitempty"` // for uid 0 only
	Apps            []AppInfo  `json:"apps,omitempty"`
	Hold            *time.Time `json:"hold,omitempty"` // until when 'snap refresh' of all passes it over
	Health          *Health    `json:"health,omitempty"`

	// Of a snap in the store: its size in bytes, what its channels have, by
	// name, and its tracks.
	DownloadSize int64                  `json:"download-size,omitempty"`
	Channels     map[string]ChannelSnap `json:"channels,omitempty"`
	Tracks       []string               `json:"tracks,omitempty"`

	// Plan and PlanError (additive), of a refresh that is possible: what it
	// would do, or why it cannot be. The daemon's own plan is a client.Plan here.
	Plan      any    `json:"refresh-plan,omitempty"`
	PlanError string `json:"refresh-error,omitempty"`

	// Classic (additive) tells that it was installed with --classic.
	Classic bool `json:"classic,omitempty"`
	// PartlyConfined (additive) tells that the kernel does not enforce all of the
	// confinement that the snap asks for.
	PartlyConfined bool `json:"partly-confined,omitempty"`
	// Notes (additive) are findings about the snap.yaml.
	Notes []string `json:"yaml-notes,omitempty"`
}

// Health is what a snap says of itself.
type Health struct {
	Revision  string    `json:"revision"` // that said it
	Status    string    `json:"status"`   // "okay", "waiting", "blocked", "error" or "unknown"
	Message   string    `json:"message,omitempty"`
	Code      string    `json:"code,omitempty"`
	Timestamp time.Time `json:"timestamp"`
}

// ChannelSnap is what a channel has.
type ChannelSnap struct {
	Revision    string    `json:"revision"`
	Version     string    `json:"version"`
	Channel     string    `json:"channel"`
	Confinement string    `json:"confinement"`
	Size        int64     `json:"size"`
	ReleasedAt  time.Time `json:"released-at,omitzero"`
}

// Publisher is who a store says a snap is from.
type Publisher struct {
	ID          string `json:"id"`
	Username    string `json:"username"`
	DisplayName string `json:"display-name"`
	Validation  string `json:"validation,omitempty"`
}

// AppInfo is an app of a snap; a service if Daemon is set.
type AppInfo struct {
	Snap        string      `json:"snap,omitempty"`
	Name        string      `json:"name"`
	Daemon      string      `json:"daemon,omitempty"`
	DaemonScope string      `json:"daemon-scope,omitempty"`
	Enabled     bool        `json:"enabled,omitempty"`
	Active      bool        `json:"active,omitempty"`
	Activators  []Activator `json:"activators,omitempty"`

	// Additive: the declared refresh-mode, the revision of the processes that
	// run, the one that is current, and (for uid 0 only) the main process.
	RefreshMode     string `json:"refresh-mode,omitempty"`
	RunningRevision string `json:"running-revision,omitempty"`
	CurrentRevision string `json:"current-revision,omitempty"`
	MainPID         int    `json:"main-pid,omitempty"`
	// Additive: what earlier refreshes left running of the service.
	Generations []Generation `json:"generations,omitempty"`

	// Seal (additive) tells whether the processes, which run from another revision
	// than the current one, can still write to that one's data: "sealed",
	// "partly sealed" or "not sealed"; SealWhy says what it lacks.
	Seal    string   `json:"seal,omitempty"`
	SealWhy []string `json:"seal-why,omitempty"`
	// SealLimits (additive) says why the data could not be sealed in full if a
	// refresh left processes of it running. Told where services are asked for by name.
	SealLimits []string `json:"seal-limits,omitempty"`
}

// Generation is a scope with processes of a service that an earlier refresh
// left running. PIDs are told uid 0 only.
type Generation struct {
	Unit      string `json:"unit"`
	Revision  string `json:"revision"`
	Processes int    `json:"processes"`
	PIDs      []int  `json:"pids,omitempty"`
	// Seal and SealWhy are as in AppInfo, for these processes.
	Seal    string   `json:"seal,omitempty"`
	SealWhy []string `json:"seal-why,omitempty"`
}

// Activator is a unit that starts a service. The keys are snapd's.
type Activator struct {
	Name    string
	Type    string // "socket", "timer" or "dbus"
	Active  bool
	Enabled bool
}

// SystemInfo is about the daemon and its host.
type SystemInfo struct {
	Series        string    `json:"series"`
	Version       string    `json:"version"`
	OSRelease     OSRelease `json:"os-release"`
	OnClassic     bool      `json:"on-classic"`
	Managed       bool      `json:"managed"`
	KernelVersion string    `json:"kernel-version,omitempty"`
	Architecture  string    `json:"architecture,omitempty"`
	Locations     Locations `json:"locations,omitempty"`
	Confinement   string    `json:"confinement"`

	Refresh RefreshTimes `json:"refresh"`
}

// RefreshTimes is when snaps are refreshed by themselves; "" is not known.
type RefreshTimes struct {
	Timer string `json:"timer,omitempty"`
	Last  string `json:"last,omitempty"` // these are RFC 3339 times
	Hold  string `json:"hold,omitempty"`
	Next  string `json:"next,omitempty"`
}

// OSRelease names the distribution.
type OSRelease struct {
	ID        string `json:"id"`
	VersionID string `json:"version-id,omitempty"`
}

// Locations are directories that a client may want to know.
type Locations struct {
	SnapMountDir string `json:"snap-mount-dir,omitempty"`
	SnapBinDir   string `json:"snap-bin-dir,omitempty"`
}

// SystemInfo asks about the daemon and its host.
func (c *Client) SystemInfo(ctx context.Context) (*SystemInfo, error) {
	var out SystemInfo
	if err := c.get(ctx, "/v2/system-info", nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Snaps lists installed snaps by name: the current revisions, or all.
func (c *Client) Snaps(ctx context.Context, names []string, all bool) ([]Snap, error) {
	q := url.Values{}
	if all {
		q.Set("select", "all")
	}
	if len(names) > 0 {
		q.Set("snaps", strings.Join(names, ","))
	}
	var out []Snap
	err := c.get(ctx, "/v2/snaps", q, &out)
	return out, err
}

// Snap returns the current revision of one snap.
func (c *Client) Snap(ctx context.Context, name string) (*Snap, error) {
	var out Snap
	if err := c.get(ctx, snapPath(name), nil, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// SnapRequest is the body of a POST to /v2/snaps and /v2/snaps/NAME.
type SnapRequest struct {
	Action    string   `json:"action"`
	Snaps     []string `json:"snaps,omitempty"`
	Revision  string   `json:"revision,omitempty"`
	Purge     bool     `json:"purge,omitempty"`
	Terminate bool     `json:"terminate,omitempty"`
	Channel   string   `json:"channel,omitempty"`
	Amend     bool     `json:"amend,omitempty"`
	// With "hold": Time is until when, RFC 3339 or "forever", and HoldLevel
	// "general" or, for refreshes that begin by themselves, "auto-refresh".
	Time      string `json:"time,omitempty"`
	HoldLevel string `json:"hold-level,omitempty"`
	// Transaction is "per-snap" (the default) or "all-snaps".
	Transaction string `json:"transaction,omitempty"`

	// DryRun (additive) asks for the plan only. With action "install", Path is
	// the absolute path of the file that would be installed.
	DryRun bool   `json:"dry-run,omitempty"`
	Path   string `json:"path,omitempty"`
	InstallOptions
}

// Revert makes an earlier revision current: the one before, if revision is "".
func (c *Client) Revert(ctx context.Context, name, revision string) (changeID string, err error) {
	return c.start(ctx, snapPath(name), SnapRequest{Action: "revert", Revision: revision})
}

// PlanRevert returns what Revert would do.
func (c *Client) PlanRevert(ctx context.Context, name, revision string) ([]Plan, error) {
	return c.plan(ctx, snapPath(name), SnapRequest{Action: "revert", Revision: revision, DryRun: true})
}

// RemoveOptions are how snaps are removed.
type RemoveOptions struct {
	Purge     bool   // save no snapshot of the data
	Terminate bool   // end running apps instead of refusing
	Revision  string // only this one; for a single snap
}

func removeRequest(names []string, o RemoveOptions) (path string, r SnapRequest) {
	r = SnapRequest{Action: "remove", Revision: o.Revision, Purge: o.Purge, Terminate: o.Terminate}
	if len(names) == 1 {
		return snapPath(names[0]), r
	}
	r.Snaps = names
	return "/v2/snaps", r
}

// Remove removes snaps.
func (c *Client) Remove(ctx context.Context, names []string, o RemoveOptions) (changeID string, err error) {
	path, r := removeRequest(names, o)
	return c.start(ctx, path, r)
}

// PlanRemove returns what Remove would do.
func (c *Client) PlanRemove(ctx context.Context, names []string, o RemoveOptions) ([]Plan, error) {
	path, r := removeRequest(names, o)
	r.DryRun = true
	return c.plan(ctx, path, r)
}

// Enable makes a disabled snap available again.
func (c *Client) Enable(ctx context.Context, name string) (changeID string, err error) {
	return c.start(ctx, snapPath(name), SnapRequest{Action: "enable"})
}

// Disable stops a snap and makes it unavailable.
func (c *Client) Disable(ctx context.Context, name string) (changeID string, err error) {
	return c.start(ctx, snapPath(name), SnapRequest{Action: "disable"})
}

// Services lists the services of snaps: names are "snap" or "snap.service",
// none means all.
func (c *Client) Services(ctx context.Context, names []string) ([]AppInfo, error) {
	q := url.Values{"select": {"service"}}
	if len(names) > 0 {
		q.Set("names", strings.Join(names, ","))
	}
	var out []AppInfo
	err := c.get(ctx, "/v2/apps", q, &out)
	return out, err
}

// AppsRequest is the body of a POST to /v2/apps.
type AppsRequest struct {
	Action  string   `json:"action"` // "start", "stop" or "restart"
	Names   []string `json:"names"`
	Enable  bool     `json:"enable,omitempty"`  // with start
	Disable bool     `json:"disable,omitempty"` // with stop
	Reload  bool     `json:"reload,omitempty"`  // with restart
}

// ControlServices starts, stops or restarts services.
func (c *Client) ControlServices(ctx context.Context, r AppsRequest) (changeID string, err error) {
	return c.start(ctx, "/v2/apps", r)
}

// TrackRequest is the body of a POST to /v2/track (additive).
type TrackRequest struct {
	Snap string `json:"snap"`
	App  string `json:"app"`
}

// Tracked is the result of a POST to /v2/track (additive).
type Tracked struct {
	// Revision is the one to run: it stays as long as the process does.
	Revision string `json:"revision"`
	// Sandbox is what the process is to put itself into.
	Sandbox *Sandbox `json:"sandbox,omitempty"`
}

// Sandbox is what an app that root starts is to see and to be able to.
type Sandbox struct {
	// Mounts are what it sees otherwise than the host.
	Mounts []SandboxMount `json:"mounts,omitempty"`
	// Content is for every user's: directories of other snaps.
	Content []SandboxMount `json:"content,omitempty"`
	// Strict bounds its capabilities to these.
	Strict       bool     `json:"strict,omitempty"`
	Capabilities []string `json:"capabilities,omitempty"`
	// NoNewPrivileges is for every user's: no program gives it more.
	NoNewPrivileges bool `json:"no-new-privileges,omitempty"`
}

// SandboxMount is a directory or file shown at another place; without a source
// an empty directory is shown there.
type SandboxMount struct {
	Source   string `json:"source,omitempty"`
	Within   string `json:"within,omitempty"` // see mount.Part
	Target   string `json:"target"`
	ReadOnly bool   `json:"read-only,omitempty"`
	Optional bool   `json:"optional,omitempty"` // left out if the source is not there
	Closed   string `json:"closed,omitempty"`   // see mount.Part
}

// Track (additive) asks the daemon to put the calling process into a scope of
// its own, so that its revision is known to be in use, and which that is. While
// the snap is being switched to another revision the answer waits for it. It
// is sent once, on a connection of its own: the daemon goes by the peer of the
// socket.
func (c *Client) Track(ctx context.Context, snapName, app string) (Tracked, error) {
	var out Tracked
	err := c.post(ctx, "/v2/track", TrackRequest{Snap: snapName, App: app}, &out)
	return out, err
}

func snapPath(name string) string { return "/v2/snaps/" + url.PathEscape(name) }

func (c *Client) plan(ctx context.Context, path string, r SnapRequest) ([]Plan, error) {
	var out Plans
	_, err := c.do(ctx, request{method: http.MethodPost, path: path, value: r}, &out)
	return out.Plans, err
}
