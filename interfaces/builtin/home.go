// SPDX-License-Identifier: Apache-2.0

package builtin

import (
	"endured/interfaces"
	"endured/snap"
)

// home gives the files of users that are not hidden and not in ~/snap, where
// the data of snaps is. With "read: all" files of other users can be read, too.
func home() interfaces.Interface {
	return interfaces.Interface{
		Name: "home", Summary: "opens the files of home directories that are not hidden", Host: true, OnlySystem: true,
		Auto: interfaces.AutoSystem,
		CheckPlug: func(p *snap.Plug) error {
			if err := noAttrs(p.Attrs, "read"); err != nil {
				return err
			}
			_, err := oneOf(p.Attrs, "read", "own", "all")
			return err
		},
		NotAuto: func(p *snap.Plug) bool { return p.Attrs["read"] == "all" },
		ForPlug: func(s *interfaces.Spec, c *interfaces.Connection) error {
			// everything but what begins with a dot, and "snap" itself
			const visible = "{[^s.],s[^n],sn[^a],sna[^p],snap[^/]}"
			s.Rules(
				"/home/ r,",
				"owner /{root,home/*}/ r,",
				"owner /{root,home/*}/"+visible+"{,**} rwklix,",
				"owner /{root,home/*}/{s,sn,sna}{,/**} rwklix,",
				"owner /run/user/[0-9]*/gvfs/{,**} rw,",
			)
			if c.Plug.Attrs["read"] == "all" {
				s.Rules(
					"/{root,home/*}/ r,",
					"/{root,home/*}/"+visible+"{,**} r,",
					"/{root,home/*}/{s,sn,sna}{,/**} r,",
				)
			}
			return nil
		},
	}
}
