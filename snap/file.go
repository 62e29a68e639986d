// SPDX-License-Identifier: Apache-2.0

package snap

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/diskfs/go-diskfs/filesystem/squashfs"
)

const (
	yamlPath = "meta/snap.yaml"
	hooksDir = "meta/hooks"
)

// File is an open .snap. It is read with a squashfs library: nothing is
// mounted or unpacked. It is not safe for concurrent use.
type File struct {
	closer io.Closer
	guard  *guard
	image  *squashfs.FileSystem
	lists  map[string]map[string]fs.FileInfo // directories read so far
	info   *Info
	yaml   []byte
	meta   []string
}

// Open opens the .snap at path and reads its metadata. The error is a
// *FileError if the file is not the image of a snap, or an *InvalidError if
// its snap.yaml is not valid. Whether this version can do what the snap needs
// is for Info().Supported to say.
func Open(path string) (*File, error) {
	// nonblocking: a FIFO would wait for a writer
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, &FileError{Err: err}
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		f.Close()
		return nil, &FileError{Err: err}
	}
	out, err := OpenReader(f, st.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	out.closer = f
	return out, nil
}

// OpenReader is Open for an image of size bytes that the caller keeps open
// until after Close.
func OpenReader(r io.ReaderAt, size int64) (*File, error) {
	super, err := readSuperblock(r, size)
	if err != nil {
		return nil, &FileError{Err: err}
	}
	g, err := newGuard(r, super)
	if err != nil {
		return nil, &FileError{Err: err}
	}
	f := &File{guard: g, lists: map[string]map[string]fs.FileInfo{}}
	err = f.safely(func() error {
		f.image, err = squashfs.Read(storage{g}, size, 0, 0)
		if err != nil {
			return fmt.Errorf("it is damaged: %w", err)
		}
		f.image.SetCacheSize(64 * int(super.BlockSize))
		return f.readMeta()
	})
	if err == nil {
		f.info, err = Parse(f.yaml)
	}
	if err != nil {
		g.close()
		return nil, err
	}
	f.info.AddHooks(f.hooks()...)
	return f, nil
}

// safely runs what calls the library: its panics become errors, and what the
// guard refused is told instead of what followed from it.
func (f *File) safely(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("it is damaged: %v", r)
		}
		if refused := f.guard.problem(); refused != nil {
			err = refused
		}
		var already *FileError
		if err != nil && !errors.As(err, &already) {
			err = &FileError{Err: err}
		}
	}()
	return do()
}

func (f *File) readMeta() error {
	mode, err := stat(f, yamlPath)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it holds no %s", yamlPath)
	} else if errors.Is(err, errOutside) {
		return fmt.Errorf("its %s %w", yamlPath, err)
	} else if err != nil {
		return err
	}
	if link, _, _ := f.lstat("meta"); !link.IsDir() {
		return errors.New("its meta is not a directory")
	}
	if link, _, _ := f.lstat(yamlPath); link != mode || !mode.IsRegular() {
		return fmt.Errorf("its %s is not a regular file", yamlPath)
	}
	if size := f.lists["meta"]["snap.yaml"].Size(); size < 0 || size > maxYAML {
		return fmt.Errorf("its %s has %d bytes; at most %d are allowed", yamlPath, size, maxYAML)
	}
	file, err := f.image.Open(yamlPath)
	if err != nil {
		return err
	}
	f.yaml, err = io.ReadAll(io.LimitReader(file, maxYAML+1))
	if err != nil {
		return fmt.Errorf("its %s is damaged: %w", yamlPath, err)
	}
	f.meta, err = listMeta(f)
	return err
}

// list reads a directory of the image, once.
func (f *File) list(dir string) (map[string]fs.FileInfo, error) {
	if l, ok := f.lists[dir]; ok {
		return l, nil
	}
	entries, err := f.image.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	l := map[string]fs.FileInfo{}
	for _, e := range entries {
		if l[e.Name()] != nil || strings.Contains(e.Name(), "/") || e.Name() == "." || e.Name() == ".." {
			return nil, fmt.Errorf("the directory %s holds the name %s twice or wrongly", dir, quote(e.Name()))
		}
		if l[e.Name()], err = e.Info(); err != nil {
			return nil, err
		}
	}
	f.lists[dir] = l
	return l, nil
}

// lstat implements tree.
func (f *File) lstat(p string) (fs.FileMode, string, error) {
	l, err := f.list(path.Dir(p))
	if err != nil {
		return 0, "", err
	}
	st := l[path.Base(p)]
	if st == nil {
		return 0, "", fs.ErrNotExist
	}
	target := ""
	if link, ok := st.(interface{ Readlink() (string, error) }); ok && st.Mode()&fs.ModeSymlink != 0 {
		if target, err = link.Readlink(); err != nil {
			return 0, "", err
		}
	}
	return st.Mode(), target, nil
}

// names implements tree.
func (f *File) names(dir string) ([]string, error) {
	l, err := f.list(dir)
	var out []string
	for n := range l {
		out = append(out, n)
	}
	return out, err
}

// Close releases the file; what was read stays usable.
func (f *File) Close() error {
	f.guard.close()
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Info is what meta/snap.yaml says; the hooks that lie in meta/hooks are in it.
func (f *File) Info() *Info { return f.info }

// YAML is meta/snap.yaml as it is in the file. The caller must not change it.
func (f *File) YAML() []byte { return f.yaml }

// MetaFiles are the paths of the files in meta/ and meta/hooks/ that matter
// here, sorted: "meta/snap.yaml", "meta/hooks/install", …. What lies in meta/gui is not listed.
func (f *File) MetaFiles() []string { return slices.Clone(f.meta) }

func (f *File) hooks() []string { return hookNames(f.meta) }

// CheckFiles tells, as a *TreeError, which of the commands of snap.yaml do not
// exist in the image or are not executable, and which device nodes it holds.
func (f *File) CheckFiles() error {
	var err error
	if e := f.safely(func() error { err = checkCommands(f.info, f); return nil }); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	list, err := f.Specials()
	if err != nil {
		return err
	}
	return noDevices(list)
}

// Specials lists the device nodes of the image and the files that are setuid or
// setgid, by path.
func (f *File) Specials() ([]Special, error) {
	out, err := specials(f.guard.r, f.guard.super)
	if err != nil {
		return nil, &FileError{Err: err}
	}
	return out, nil
}

// SameMeta tells, by an error, whether the snap mounted at dir has other
// metadata than what this File has validated.
func (f *File) SameMeta(dir string) error {
	mounted, err := readYAML(dir)
	if err != nil {
		return err
	}
	if !bytes.Equal(mounted, f.yaml) {
		return fmt.Errorf("cannot use the snap mounted at %s: its %s is not the one that was validated", dir, yamlPath)
	}
	names, err := listMeta(dirTree(dir))
	if err != nil {
		return fmt.Errorf("cannot use the snap mounted at %s: %w", dir, err)
	}
	if !slices.Equal(names, f.meta) {
		return fmt.Errorf("cannot use the snap mounted at %s: its meta/ is not the one that was validated", dir)
	}
	return nil
}

// readYAML reads meta/snap.yaml below dir: a regular file of limited size.
func readYAML(dir string) ([]byte, error) {
	name := filepath.Join(dir, yamlPath)
	if st, err := os.Lstat(name); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", yamlPath, err)
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read %s: not a regular file: %s", yamlPath, name)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", yamlPath, err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxYAML+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return data, nil
}

// Hash returns the SHA-256 of what r holds, in hex, and its length in bytes.
func Hash(ctx context.Context, r io.Reader) (sum string, size int64, err error) {
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return "", 0, fmt.Errorf("cannot hash: %w", err)
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		size += int64(n)
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), size, nil
		}
		if err != nil {
			return "", 0, fmt.Errorf("cannot hash: %w", err)
		}
	}
}

// HashFile is Hash for the file at path.
func HashFile(ctx context.Context, path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("cannot hash: %w", err)
	}
	defer f.Close()
	return Hash(ctx, f)
}
