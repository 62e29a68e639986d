// SPDX-License-Identifier: Apache-2.0

// Package apparmor makes the AppArmor profiles of snaps and puts them into the
// kernel: one profile for each app and hook of each revision, so that what an
// older process may do can be changed without touching a newer one. What is
// generated is a pure function of a Set; a Store compiles it, keeps it, loads
// it, seals it and takes it away.
package apparmor

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"endured/snap"
)

// Mode is what the kernel does about what a profile does not allow.
type Mode string

// The modes, by the confinement of a snap.
const (
	Enforce    Mode = "enforce"    // strict: it is refused
	Complain   Mode = "complain"   // devmode: it is logged
	Unconfined Mode = "unconfined" // classic: nothing is asked, there is only a label
)

// Profile is what one profile is made from.
type Profile struct {
	App  string `json:"app,omitempty"`
	Hook string `json:"hook,omitempty"` // one of the two is set
	// Service tells that the program has mounts of its own: its /tmp is the snap's.
	Service bool `json:"service,omitempty"`
	// Rules are lines of AppArmor's language that connected interfaces add, each
	// one rule with its comma. What they write never reaches a sealed directory.
	Rules []string `json:"rules,omitempty"`
	// Capabilities are those that interfaces add, such as "CAP_NET_ADMIN".
	Capabilities []string `json:"capabilities,omitempty"`
}

// Name is what the program is called within its snap: "APP" or "hook.HOOK".
func (p *Profile) Name() string {
	if p.Hook != "" {
		return "hook." + p.Hook
	}
	return p.App
}

// Set is what all profiles of one revision of a snap are made from.
type Set struct {
	Snap     string        `json:"snap"`
	Revision snap.Revision `json:"revision"`
	Mode     Mode          `json:"mode"`
	Profiles []Profile     `json:"profiles"`

	// Seal, if set, takes away every right to change what lies in $SNAP_DATA.
	// It lasts until the next boot at most, which no process outlives.
	Seal *Seal `json:"-"`
}

// Seal says how the profiles of a revision are sealed.
type Seal struct {
	// Successor is the revision into whose programs' profiles a process changes
	// as it executes them; 0 is none.
	Successor snap.Revision `json:"successor"`
	// Into are the profiles that change so, by Profile.Name. All others stay what
	// they are, whatever program of their snap is executed.
	Into []string `json:"into,omitempty"`
}

// Label is the name of a profile, which a confined process carries:
// snap.SNAP.APP.REVISION or snap.SNAP.hook.HOOK.REVISION.
func Label(snapName, appOrHook string, rev snap.Revision) string {
	return "snap." + snapName + "." + appOrHook + "." + rev.String()
}

// ParseLabel takes a label apart. ok is false for what Label did not make.
func ParseLabel(label string) (snapName, appOrHook string, rev snap.Revision, ok bool) {
	rest, ok := strings.CutPrefix(label, "snap.")
	if !ok {
		return "", "", 0, false
	}
	snapName, rest, ok = strings.Cut(rest, ".")
	dot := strings.LastIndexByte(rest, '.')
	if !ok || dot < 0 {
		return "", "", 0, false
	}
	rev, err := snap.ParseRevision(rest[dot+1:])
	if err != nil || checkNames(snapName, rest[:dot]) != nil {
		return "", "", 0, false
	}
	return snapName, rest[:dot], rev, true
}

// Labels lists the names of the set's profiles, sorted.
func (s *Set) Labels() []string {
	out := make([]string, 0, len(s.Profiles))
	for i := range s.Profiles {
		out = append(out, Label(s.Snap, s.Profiles[i].Name(), s.Revision))
	}
	sort.Strings(out)
	return out
}

// Texts returns the profiles by label. It fails for a name or a rule that
// would mean something else to AppArmor than what it says.
func (s *Set) Texts() (map[string]string, error) {
	out := map[string]string{}
	for i := range s.Profiles {
		p := &s.Profiles[i]
		text, err := s.text(p)
		if err != nil {
			return nil, fmt.Errorf("cannot make the AppArmor profile of %q: %w", s.Snap+"."+p.Name(), err)
		}
		label := Label(s.Snap, p.Name(), s.Revision)
		if out[label] != "" {
			return nil, fmt.Errorf("cannot make the AppArmor profile of %q twice", s.Snap+"."+p.Name())
		}
		out[label] = text
	}
	return out, nil
}

func (s *Set) text(p *Profile) (string, error) {
	if err := s.check(p); err != nil {
		return "", err
	}
	var b strings.Builder
	label := Label(s.Snap, p.Name(), s.Revision)
	switch s.Mode {
	case Unconfined:
		fmt.Fprintf(&b, "profile \"%s\" flags=(unconfined) {\n}\n", label)
		return b.String(), nil
	case Complain:
		fmt.Fprintf(&b, "profile \"%s\" flags=(complain,attach_disconnected,mediate_deleted) {\n", label)
	default:
		fmt.Fprintf(&b, "profile \"%s\" flags=(attach_disconnected,mediate_deleted) {\n", label)
	}
	names := strings.NewReplacer("{SNAP}", s.Snap, "{REV}", s.Revision.String())
	b.WriteString(names.Replace(baseRules))
	if p.Service || p.Hook != "" {
		b.WriteString(names.Replace(ownTmpRules))
	} else {
		b.WriteString(names.Replace(sharedTmpRules))
	}
	b.WriteString(capabilityRules(p.Capabilities))
	if len(p.Rules) > 0 {
		b.WriteString("\n  # What connected interfaces add.\n")
	}
	for _, r := range p.Rules {
		b.WriteString("  " + strings.TrimSpace(r) + "\n")
	}
	b.WriteString(s.programRules(p))
	b.WriteString("}\n")
	return b.String(), nil
}

// programRules say which programs of the snap may be executed, and what of the
// revision's data is sealed.
func (s *Set) programRules(p *Profile) string {
	text := ""
	if s.Seal != nil {
		text = fmt.Sprintf("\n  # Sealed: what lies in this revision's data stays as it is.\n  deny /var/snap/%s/%s/{,**} wl,\n", s.Snap, s.Revision)
	}
	text += "\n  # The snap's own programs.\n"
	if s.Seal == nil || !slices.Contains(s.Seal.Into, p.Name()) {
		// of other revisions, too: stop commands of an older process run under the newer profile
		return text + fmt.Sprintf("  /snap/%s/{,**} mrix,\n", s.Snap)
	}
	return text + fmt.Sprintf("  /snap/%s/{,**} mr,\n  /snap/%s/%s/{,**} ix,\n\n", s.Snap, s.Snap, s.Revision) +
		"  # A process that executes itself anew lands in its successor's profile.\n" +
		fmt.Sprintf("  /snap/%s/%s/** px -> %s,\n", s.Snap, s.Seal.Successor, Label(s.Snap, p.Name(), s.Seal.Successor))
}

func capabilityRules(extra []string) string {
	var b strings.Builder
	b.WriteString("\n")
	for _, c := range append(DefaultCapabilities(), extra...) {
		b.WriteString("  capability " + strings.ToLower(strings.TrimPrefix(c, "CAP_")) + ",\n")
	}
	return b.String()
}

// DefaultCapabilities are what a strict program has without any interface:
// they do not reach beyond the files, processes and users that it may deal with.
// CAP_SYS_ADMIN and CAP_LINUX_IMMUTABLE are not among them: either undoes a seal.
func DefaultCapabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
		"CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID",
	}
}
