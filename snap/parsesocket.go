// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxUnixPath is what sun_path of a UNIX socket holds, its end included.
const maxUnixPath = 108

func (d *draft) socket(a *appDraft, name, path string, v *yaml.Node) {
	if err := CheckAppName(name); err != nil {
		d.bad(path, "%s", err)
		return
	}
	if len(a.Sockets) == maxSockets {
		d.bad(path, "is one too many; an app may have at most %d sockets", maxSockets)
		return
	}
	s := &Socket{App: a.App, Name: name}
	d.mapping(path, v, func(key, path string, v *yaml.Node) {
		switch key {
		case "listen-stream":
			s.ListenStream, _ = d.str(path, v)
		case "socket-mode":
			s.Mode = d.socketMode(path, v)
		default:
			d.unknown(path, key, []string{"listen-stream", "socket-mode"})
		}
	})
	a.Sockets = append(a.Sockets, s)
	sort.Slice(a.Sockets, func(x, y int) bool { return a.Sockets[x].Name < a.Sockets[y].Name })
}

func (d *draft) socketMode(path string, v *yaml.Node) uint32 {
	if isNull(v) {
		return 0
	}
	var mode uint32
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!int" || v.Decode(&mode) != nil {
		d.bad(path, "must be an octal number such as 0660, found %s", kindName(v))
		return 0
	}
	if mode > 0o777 {
		d.bad(path, "%s is more than 0777; write it as an octal number such as 0660", quote(v.Value))
		return 0
	}
	return mode
}

// checkSocket checks where a socket listens: a path in the snap's data, an
// abstract name of the snap, or a port of this host.
func (d *draft) checkSocket(a *appDraft, s *Socket) {
	key := join(join(join(a.path, "sockets"), s.Name), "listen-stream")
	addr := s.ListenStream
	var err error
	switch {
	case d.complained(key):
		return
	case addr == "":
		d.bad(key, "is missing")
		return
	case strings.HasPrefix(addr, "/") || strings.HasPrefix(addr, "$"):
		err = d.checkSocketPath(a, addr)
	case strings.HasPrefix(addr, "@"):
		prefix := "@snap." + d.info.Name + "."
		switch {
		case !strings.HasPrefix(addr, prefix) || len(addr) == len(prefix):
			err = fmt.Errorf("%s: an abstract socket of this snap begins with %q", quote(addr), prefix)
		case len(addr) >= maxUnixPath:
			err = fmt.Errorf("%s is too long for a socket", quote(addr))
		case strings.ContainsAny(addr, " \"'\\%;$"):
			err = fmt.Errorf("%s holds a character that is not allowed in an address", quote(addr))
		}
	default:
		err = checkNetAddress(addr)
	}
	if err != nil {
		d.bad(key, "%s", err)
	}
}

func (d *draft) checkSocketPath(a *appDraft, addr string) error {
	prefixes := []string{"$SNAP_DATA/", "$SNAP_COMMON/", "$XDG_RUNTIME_DIR/"}
	if a.scope == "user" {
		prefixes = []string{"$SNAP_USER_DATA/", "$SNAP_USER_COMMON/", "$XDG_RUNTIME_DIR/"}
	}
	switch {
	case path.Clean(addr) != addr:
		return fmt.Errorf("%s is not a clean path: no \"..\", \".\" or \"//\"", quote(addr))
	case !inOne(addr, prefixes...):
		return fmt.Errorf("%s is not allowed; a socket's path begins with %s", quote(addr), either(prefixes))
	case strings.ContainsAny(addr, " \"'\\%;"):
		return fmt.Errorf("%s holds a character that is not allowed in an address", quote(addr))
	}
	// The longest that the directory of a revision gets, so that a socket does not fail some refreshes later.
	_, rest, _ := strings.Cut(addr, "/")
	if n := len("/var/snap/" + d.info.Name + "/x99999/" + rest); n >= maxUnixPath {
		return fmt.Errorf("%s is too long for a socket once expanded", quote(addr))
	}
	return nil
}

func checkNetAddress(addr string) error {
	host, port := "", addr
	if i := strings.LastIndex(addr, ":"); i >= 0 {
		host, port = addr[:i], addr[i+1:]
		if !slices.Contains([]string{"127.0.0.1", "[::1]", "[::]"}, host) {
			return fmt.Errorf("%s is not allowed; the host may be 127.0.0.1, [::1] or [::]", quote(addr))
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("%s is not an address to listen on; use a path such as $SNAP_DATA/sock, @snap.NAME.sock, or [HOST:]PORT with a port of 1 to 65535",
			quote(addr))
	}
	return nil
}
