// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bigSkeleton is a snap with so many files that its tables are of several
// blocks, links, a directory with an index, and special files among them.
func bigSkeleton(t testing.TB) string {
	t.Helper()
	files := plainSkeleton()
	for n := range 1500 {
		files[fmt.Sprintf("share/%d/a rather long name of a file, so that the directory fills blocks %d", n%7, n)] = strings.Repeat("x", n%50)
	}
	files["usr/bin/one*"], files["usr/bin/both*"], files["share/3/deep/er/group*"] = "x", "x", strings.Repeat("y", 300_000)
	files["to-bin@"] = "usr/bin"
	dir := skeleton(t, files)
	for name, bits := range map[string]os.FileMode{
		"usr/bin/one": os.ModeSetuid, "usr/bin/both": os.ModeSetuid | os.ModeSetgid, "share/3/deep/er/group": os.ModeSetgid,
		"share/3": os.ModeSetgid | os.ModeDir, // of a directory it means something else
	} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755|bits); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSpecials(t *testing.T) {
	t.Parallel()
	dir := bigSkeleton(t)
	quick := []Special{{"share/3/deep/er/group", "setgid"}, {"usr/bin/both", "setuid"}, {"usr/bin/one", "setuid"}}
	if got, err := SpecialsIn(dir); err != nil || !slices.Equal(got, quick) {
		t.Errorf("in the directory: %v, %v", got, err)
	}
	nodes := []string{"-p", "dev d 755 0 0", "-p", "dev/null c 666 0 0 1 3", "-p", "dev/sda b 660 0 0 8 0", "-p", "dev/pipe i 644 0 0 f"}
	all := append([]Special{{"dev/null", "device"}, {"dev/sda", "device"}}, quick...)
	for _, options := range [][]string{
		{"-comp", "gzip"}, {"-comp", "xz"}, {"-comp", "zstd"}, {"-comp", "lzo"}, {"-comp", "xz", "-noI"}, {"-comp", "gzip", "-no-fragments", "-b", "4K"},
		{"-comp", "zstd", "-no-exports", "-b", "1M"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			for _, c := range []struct {
				nodes []string
				want  []Special
				err   string
			}{
				{nil, quick, ""},
				{nodes, all, "cannot use the files of the snap:\n- \"dev/null\" is a device node, which a snap cannot bring; remove it\n" +
					"- \"dev/sda\" is a device node, which a snap cannot bring; remove it"},
			} {
				f, err := Open(image(t, dir, append(c.nodes, options...)...))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				got, err := f.Specials()
				if err != nil || !slices.Equal(got, c.want) {
					t.Errorf("%v, %v; want %v", got, err, c.want)
				}
				if err := f.CheckFiles(); c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
					t.Errorf("CheckFiles: %v", err)
				}
			}
		})
	}
}

func TestPowerless(t *testing.T) {
	t.Parallel()
	list := []Special{{"dev/null", "device"}}
	if got := Powerless(list); got != "" {
		t.Error(got)
	}
	for n := range 5 {
		list = append(list, Special{fmt.Sprint(n), "setuid"})
	}
	const want = `"0" is setuid, "1" is setuid, "2" is setuid, 2 more are; that has no effect: snaps are mounted nosuid`
	if got := Powerless(list); got != want {
		t.Error(got)
	}
}
