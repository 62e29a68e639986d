// SPDX-License-Identifier: Apache-2.0

// Package arch holds the rules that the code agreed to keep: what may import
// what, how large files and functions get, and what no package has.
package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// layers lists, bottom first, the packages of each layer. A package may import
// only packages of the layers below its own.
var layers = [][]string{
	{"dirs", "osutil"},
	{"osutil/treecopy", "snap", "interfaces/mount"},
	{"systemd", "snap/userdata", "interfaces/apparmor", "store"},
	{"systemd/systemdtest", "wrappers", "interfaces"},
	{"interfaces/builtin"},
	{"overlord/state", "overlord/lifecycle"},
	{"overlord/snapstate"},
	{"overlord/seal"},
	{"overlord/cutover", "overlord/configstate", "overlord/confinement"},
	{"overlord/ifacestate", "overlord/servicestate", "overlord/hookstate"},
	{"overlord/recipes"},
	{"overlord"},
	{"client"},
	{"daemon"},
	{"cmd/snapd", "cmd/snapd-apparmor", "cmd/snapd-content", "cmd/snap", "cmd/snapctl"},
}

const (
	module       = "endured/"
	maxFile      = 600
	maxFunction  = 100
	maxDepth     = 11
	licenceFirst = "// SPDX-License-Identifier: Apache-2.0\n"
)

type file struct {
	rel    string
	pkg    string
	test   bool
	source string
	tree   *ast.File
	fset   *token.FileSet
}

func (f *file) line(p token.Pos) int { return f.fset.Position(p).Line }

func (f *file) imports() []string {
	var out []string
	for _, i := range f.tree.Imports {
		if dep, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module); ours {
			out = append(out, dep)
		}
	}
	return out
}

// files parses the repository.
func files(t *testing.T) []*file {
	t.Helper()
	root := filepath.Join("..", "..")
	var out []*file
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if d.IsDir() && (d.Name() == "bin" || d.Name() == "build" || rel != "." && strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		f, err := parse(p, rel)
		out = append(out, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("found only %d files: looking in the wrong place", len(out))
	}
	return out
}

func parse(p, rel string) (*file, error) {
	src, err := readFile(p)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, p, src, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	return &file{
		rel: rel, pkg: path.Dir(filepath.ToSlash(rel)), test: strings.HasSuffix(rel, "_test.go"),
		source: src, tree: tree, fset: fset,
	}, nil
}

func TestImportsGoDownwards(t *testing.T) {
	level := map[string]int{}
	for i, l := range layers {
		for _, p := range l {
			level[p] = i + 1
		}
	}
	for _, f := range files(t) {
		if f.test || strings.HasPrefix(f.pkg, "tests") {
			continue
		}
		if level[f.pkg] == 0 {
			t.Errorf("%s: package %s has no layer: give it one in this test", f.rel, f.pkg)
		}
		for _, dep := range f.imports() {
			if level[dep] >= level[f.pkg] {
				t.Errorf("%s (layer %d) must not import %s (layer %d)", f.rel, level[f.pkg], dep, level[dep])
			}
			if f.pkg == "client" {
				t.Errorf("%s: the client imports nothing of ours, not %s", f.rel, dep)
			}
		}
	}
}

func TestImportDepth(t *testing.T) {
	deps := map[string]map[string]bool{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		if deps[f.pkg] == nil {
			deps[f.pkg] = map[string]bool{}
		}
		for _, d := range f.imports() {
			deps[f.pkg][d] = true
		}
	}
	depth := map[string]int{}
	var of func(p string) int
	of = func(p string) int {
		if depth[p] == 0 {
			depth[p] = 1
			for d := range deps[p] {
				depth[p] = max(depth[p], 1+of(d))
			}
		}
		return depth[p]
	}
	for p := range deps {
		if of(p) > maxDepth {
			t.Errorf("package %s imports %d packages deep, more than %d", p, of(p), maxDepth)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, f := range files(t) {
		if n := strings.Count(f.source, "\n"); n > maxFile {
			t.Errorf("%s has %d lines, more than %d", f.rel, n, maxFile)
		}
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > maxFunction {
				t.Errorf("%s: function %s has %d lines, more than %d", f.rel, fn.Name.Name, n, maxFunction)
			}
		}
	}
}

func TestLicenceAndPackageComments(t *testing.T) {
	comments := map[string][]string{}
	packages := map[string]bool{}
	for _, f := range files(t) {
		if !strings.HasPrefix(f.source, licenceFirst) {
			t.Errorf("%s does not begin with %s", f.rel, strings.TrimSpace(licenceFirst))
		}
		if f.test && !strings.HasPrefix(f.pkg, "tests/") {
			continue
		}
		packages[f.pkg] = true
		if f.tree.Doc != nil {
			comments[f.pkg] = append(comments[f.pkg], f.rel)
		}
	}
	for p := range packages {
		if len(comments[p]) != 1 {
			sort.Strings(comments[p])
			t.Errorf("package %s has %d package comments, and wants one: %v", p, len(comments[p]), comments[p])
		}
	}
}

// TestNoGlobals refuses init functions and package variables of function type:
// everything is constructed, and seams are interfaces.
func TestNoGlobals(t *testing.T) {
	for _, f := range files(t) {
		if f.test {
			continue
		}
		for _, d := range f.tree.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.Name == "init" && d.Recv == nil {
					t.Errorf("%s:%d has an init function", f.rel, f.line(d.Pos()))
				}
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok && d.Tok == token.VAR && funcVariable(v) {
						t.Errorf("%s:%d: %s is a package variable of function type", f.rel, f.line(v.Pos()), v.Names[0].Name)
					}
				}
			}
		}
	}
}

func funcVariable(v *ast.ValueSpec) bool {
	if _, ok := v.Type.(*ast.FuncType); ok {
		return true
	}
	for _, e := range v.Values {
		if _, ok := e.(*ast.FuncLit); ok {
			return true
		}
	}
	return false
}

// TestModesAreDecidedOnce keeps the meaning of a mode in overlord/lifecycle:
// nobody else compares one, or a word of one.
func TestModesAreDecidedOnce(t *testing.T) {
	for _, f := range files(t) {
		if f.test || f.pkg == "overlord/lifecycle" || f.pkg == "snap" || strings.HasPrefix(f.pkg, "tests") {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			b, ok := n.(*ast.BinaryExpr)
			if ok && (b.Op == token.EQL || b.Op == token.NEQ) && (isMode(b.X) || isMode(b.Y)) {
				t.Errorf("%s:%d compares a refresh-mode or stop-mode: only overlord/lifecycle does", f.rel, f.line(b.Pos()))
			}
			return true
		})
	}
}

func isMode(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && (s.Sel.Name == "RefreshMode" || s.Sel.Name == "StopMode")
}
