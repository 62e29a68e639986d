// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"regexp"
	"runtime"
	"slices"
	"strconv"
)

// assumable are the features that a snap may assume, besides versions of snapd.
var assumable = []string{"app-refresh-mode", "command-chain", "common-data-dir", "snap-env"}

// The newest snapd whose plain features are here.
const assumeMajor, assumeMinor = 2, 57

var assumeVersion = regexp.MustCompile(`^snapd([0-9]{1,4})(?:\.([0-9]{1,4}))?(?:\.[0-9]{1,4})*$`)

// findNeeds records what this version cannot do for the snap.
func (d *draft) findNeeds() {
	i := d.info
	if i.Type != "app" {
		d.need("type", "%s is not supported; only snaps of type app are", quote(i.Type))
	}
	if !slices.Contains([]string{"", "none", "bare"}, i.Base) {
		d.need("base", "base snaps are not supported yet, found %s; leave base out or use none or bare", quote(i.Base))
	}
	for _, f := range i.Assumes {
		if !canAssume(f) {
			d.need("assumes", "%s is not available; there is %s, and snapd up to %d.%d", quote(f), either(assumable), assumeMajor, assumeMinor)
		}
	}
	if !i.Epoch.CanRead(Epoch{}) {
		d.need("epoch", "%s cannot read the data of epoch 0, and there is no stepping from epoch to epoch yet", i.Epoch)
	}
	for _, a := range d.apps {
		if a.scope == "user" {
			d.need(join(a.path, "daemon-scope"), "services of users are not supported yet")
		}
	}
}

func canAssume(feature string) bool {
	if slices.Contains(assumable, feature) {
		return true
	}
	m := assumeVersion.FindStringSubmatch(feature)
	if m == nil {
		return false
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	return major < assumeMajor || major == assumeMajor && minor <= assumeMinor
}

// Supported tells what the snap needs and this version cannot do, as an
// *UnsupportedError that lists every such key. Confinement may be missing.
func (i *Info) Supported() error {
	if len(i.needs) == 0 {
		return nil
	}
	return &UnsupportedError{Snap: i.Name, Problems: slices.Clone(i.needs)}
}

// RunsOn tells whether the snap is for the architecture, in Debian's spelling.
func (i *Info) RunsOn(arch string) bool {
	return len(i.Architectures) == 0 || slices.Contains(i.Architectures, "all") || slices.Contains(i.Architectures, arch)
}

// HostArch is the architecture that this program was built for, in Debian's spelling.
func HostArch() string {
	switch runtime.GOARCH {
	case "386":
		return "i386"
	case "arm":
		return "armhf"
	case "ppc64le":
		return "ppc64el"
	}
	return runtime.GOARCH
}
