// SPDX-License-Identifier: Apache-2.0

package wrappers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"endured/snap"
	"endured/systemd"
)

// maxSocketPath is the longest path that a UNIX socket can be bound to.
const maxSocketPath = 107

// socketUnit returns a socket's unit and, for a path, the link from where the
// author asked to where PID 1 listens.
//
// The text does not depend on the revision: a socket stays open over a
// refresh, and a changed address would close it at the reload. For the same
// reason it requires no mount and waits for no gate.
func socketUnit(s *snap.Socket, o Options) ([]byte, *Link, error) {
	app := s.App
	listen, link, err := listenAddress(s, o)
	if err != nil {
		return nil, nil, err
	}
	opts := []systemd.Option{
		opt("Service", app.Unit()),
		opt("FileDescriptorName", s.Name),
		opt("ListenStream", systemd.QuoteValue(listen)),
	}
	if link != nil {
		opts = append(opts, opt("RemoveOnStop", "yes"))
	}
	if s.Mode != 0 {
		opts = append(opts, opt("SocketMode", fmt.Sprintf("%04o", s.Mode)))
	}
	data, err := systemd.Unit{
		sect("Unit",
			opt("Description", fmt.Sprintf("Socket %s for snap application %s.%s", s.Name, app.Snap.Name, app.Name)),
			opt("X-Snappy", "yes")),
		sect("Socket", opts...),
		sect("Install", opt("WantedBy", "sockets.target")),
	}.Bytes()
	return data, link, err
}

// listenAddress decides where PID 1 listens. It binds no path in a directory
// that a snap can write: those become a link into a directory of root's.
func listenAddress(s *snap.Socket, o Options) (string, *Link, error) {
	addr := s.ListenStream
	if addr == "" || strings.ContainsAny(addr, " \t\"'\\") {
		return "", nil, fmt.Errorf("cannot listen on %q", addr)
	}
	if !strings.HasPrefix(addr, "$") && !strings.HasPrefix(addr, "/") {
		return addr, nil, nil // abstract, or a port
	}
	// The author's environment: has no say in where PID 1 makes a link.
	bare := &snap.Info{Name: s.App.Snap.Name, Revision: s.App.Snap.Revision}
	path, err := expandPath(addr, Env(bare, nil, User{Home: "/root"}, o))
	if err != nil {
		return "", nil, err
	}
	listen := ListenPath(s)
	base := "/run/user/0"
	for _, dir := range []string{system().Common(bare.Name), system().Data(bare.Name, bare.Revision)} {
		if strings.HasPrefix(path, dir+"/") {
			base = dir
		}
	}
	if !strings.HasPrefix(path, base+"/") {
		return "", nil, fmt.Errorf("cannot listen on %q: not in a directory of the snap", addr)
	}
	return listen, &Link{Unit: s.Unit(), Base: base, Path: path, Target: listen}, nil
}

// ListenPath is where PID 1 listens for a socket that has a path.
func ListenPath(s *snap.Socket) string {
	name := strings.TrimSuffix(s.Unit(), ".socket")
	path := filepath.Join(system().Sockets(), name)
	if len(path) > maxSocketPath {
		sum := sha256.Sum256([]byte(name))
		path = filepath.Join(system().Sockets(), "snap."+s.App.Snap.Name+"."+hex.EncodeToString(sum[:8]))
	}
	return path
}
