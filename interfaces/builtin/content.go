// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"endured/dirs"
	"endured/interfaces"
	"endured/snap"
)

// content shares directories of one snap with another. The slot lists what may
// be read and what written, the plug says where it wants to see that:
//
//	slots:
//	  files: {interface: content, content: files, read: [$SNAP/share], write: [$SNAP_COMMON/spool]}
//	plugs:
//	  files: {interface: content, content: files, target: $SNAP_COMMON/files}
//
// One directory appears at the target itself, several below it by their last
// names; "source: {read, write}" of a slot puts one below it, too. A service
// sees what was current at its start.
func content() interfaces.Interface {
	return interfaces.Interface{
		Name: "content", Summary: "shares directories with other snaps", Auto: interfaces.AutoPublisher,
		CheckPlug: checkContentPlug,
		CheckSlot: func(s *snap.Slot) error { _, err := shared(s); return err },
		Match: func(p *snap.Plug, s *snap.Slot) error {
			if want, have := contentID(p), contentID((*snap.Plug)(s)); want != have {
				return fmt.Errorf("the plug wants the content %q, the slot has %q", want, have)
			}
			_, err := contentMounts(p, s)
			return err
		},
		ForPlug: contentForPlug,
	}
}

// SharedData lists which directories of a snap's $SNAP_DATA, relative to it,
// other snaps may write to, and which they may only read. What they have mounted
// is to be sealed with it.
func SharedData(info *snap.Info) (write, read []string) {
	for _, s := range info.Slots {
		if s.Interface != "content" {
			continue
		}
		dirs, err := shared(s)
		if err != nil {
			continue
		}
		for _, d := range dirs {
			switch {
			case d.in != "$SNAP_DATA":
			case d.write:
				write = append(write, d.rel)
			default:
				read = append(read, d.rel)
			}
		}
	}
	return write, slices.DeleteFunc(read, func(rel string) bool { return slices.Contains(write, rel) })
}

// contentDir is a directory that a slot shares.
type contentDir struct {
	in    string // $SNAP, $SNAP_DATA or $SNAP_COMMON
	rel   string // below it; "" is all of it
	write bool
}

// contentID is what is shared: "content", or the name of the plug or slot.
func contentID(p *snap.Plug) string {
	if id, _ := p.Attrs["content"].(string); id != "" {
		return id
	}
	return p.Name
}

func checkContentPlug(p *snap.Plug) error {
	if err := noAttrs(p.Attrs, "content", "target", "default-provider"); err != nil {
		return err
	}
	for _, key := range []string{"content", "default-provider"} {
		if _, err := p.Attrs.String(key); err != nil {
			return err
		}
	}
	target, err := p.Attrs.String("target")
	if err != nil {
		return err
	}
	if target == "" {
		return fmt.Errorf("attribute \"target\" is missing; say where the content is to be seen, such as $SNAP_COMMON/shared")
	}
	d, err := contentPath("target", target)
	if err == nil && d.rel == "" {
		err = fmt.Errorf("attribute \"target\" is %q; it must lie below that", target)
	}
	return err
}

// contentPath reads a path that begins with a variable; without one it is below $SNAP.
func contentPath(key, p string) (contentDir, error) {
	d := contentDir{in: "$SNAP"}
	for _, v := range []string{"$SNAP_COMMON", "$SNAP_DATA", "$SNAP"} {
		if p == v {
			d.in = v
			return d, nil
		}
		if rest, ok := strings.CutPrefix(p, v+"/"); ok {
			d.in, p = v, rest
			break
		}
	}
	p = strings.TrimSuffix(strings.TrimPrefix(p, "/"), "/")
	if p == "" {
		return d, nil
	}
	d.rel = p
	return d, cleanPath(key, p)
}

// shared lists what a slot shares.
func shared(s *snap.Slot) ([]contentDir, error) {
	if err := noAttrs(s.Attrs, "content", "read", "write", "source"); err != nil {
		return nil, err
	}
	if _, err := s.Attrs.String("content"); err != nil {
		return nil, err
	}
	from := s.Attrs
	if src := s.Attrs["source"]; src != nil {
		m, ok := src.(map[string]any)
		if !ok || s.Attrs["read"] != nil || s.Attrs["write"] != nil {
			return nil, fmt.Errorf("attribute \"source\" must be a map with read and write, which are not elsewhere, too")
		}
		from = m
	}
	var out []contentDir
	for _, key := range []string{"read", "write"} {
		list, err := from.Strings(key)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			d, err := contentPath(key, p)
			if err != nil {
				return nil, err
			}
			d.write = key == "write"
			if d.write && d.in == "$SNAP" {
				return nil, fmt.Errorf("attribute \"write\" holds %q; what lies in $SNAP cannot be written", p)
			}
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("attributes \"read\" and \"write\" are missing; say which directories are shared")
	}
	return out, nil
}

// contentMounts says which directory is seen where. The source is named by the
// link to the provider's current revision: a refresh of the provider changes no unit.
func contentMounts(p *snap.Plug, s *snap.Slot) ([]interfaces.Mount, error) {
	list, err := shared(s)
	if err != nil {
		return nil, err
	}
	text, err := p.Attrs.String("target")
	if err != nil {
		return nil, err
	}
	t, err := contentPath("target", text)
	if err != nil {
		return nil, err
	}
	layout := dirs.Dirs{}
	provider, consumer := s.Snap, p.Snap
	target := path.Join(map[string]string{
		"$SNAP": layout.Mount(consumer.Name, consumer.Revision), "$SNAP_DATA": layout.Data(consumer.Name, consumer.Revision),
		"$SNAP_COMMON": layout.Common(consumer.Name),
	}[t.in], t.rel)
	var out []interfaces.Mount
	for _, d := range list {
		within := map[string]string{
			"$SNAP": layout.Current(provider.Name), "$SNAP_DATA": layout.CurrentData(provider.Name),
			"$SNAP_COMMON": layout.Common(provider.Name),
		}[d.in]
		m := interfaces.Mount{Source: path.Join(within, d.rel), Within: within, Target: target, ReadOnly: !d.write}
		if len(list) > 1 || s.Attrs["source"] != nil {
			name := path.Base(d.rel)
			if d.rel == "" {
				name = provider.Name
			}
			m.Target = path.Join(target, name)
		}
		if slices.ContainsFunc(out, func(o interfaces.Mount) bool { return o.Target == m.Target }) {
			return nil, fmt.Errorf("two of the slot's directories would both be seen at %s", m.Target)
		}
		out = append(out, m)
	}
	return out, nil
}

// contentForPlug mounts the directories. Rules go by the path at which a file is
// seen; those for $SNAP_DATA and $SNAP_COMMON are in every profile already.
func contentForPlug(s *interfaces.Spec, c *interfaces.Connection) error {
	mounts, err := contentMounts(c.Plug, c.Slot)
	if err != nil {
		return err
	}
	s.Mounts = append(s.Mounts, mounts...)
	for _, m := range mounts {
		s.Rules(m.Target + "/{,**} mrix,")
		if !m.ReadOnly {
			s.Rules(m.Target + "/{,**} wlk,")
		}
	}
	return nil
}
