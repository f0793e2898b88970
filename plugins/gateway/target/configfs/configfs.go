// Package configfs reads and writes the kernel's targets where they are configured. It is the thin adapter under package
// tree: [Tree.Read] makes a snapshot, [Tree.Do] carries an operation out.
//
// A Tree is a set of directories below the mount point that core handed out ("target", "nvmet"); nothing outside of them
// can be reached through it. Calls wait for the kernel, which waits for requests in flight when something is taken away:
// the caller must not hold up anything else with it. Not safe for concurrent use.
package configfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/ratchetos/ratchet/plugins/gateway/target/tree"
)

// maxAttr is the size of the kernel's buffer for an attribute.
const maxAttr = 4096

// Tree is the part of configfs that we own.
type Tree struct {
	mount string // links point to absolute paths
	roots map[string]*os.Root
}

// Open opens directories by their names below the mount point.
func Open(mount string, names ...string) (*Tree, error) {
	t := &Tree{mount: mount, roots: make(map[string]*os.Root)}
	for _, name := range names {
		r, err := os.OpenRoot(path.Join(mount, name))
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("open configfs: %w", err)
		}
		t.roots[name] = r
	}
	return t, nil
}

// Close closes the directories.
func (t *Tree) Close() {
	for _, r := range t.roots {
		r.Close()
	}
}

// at splits a path of package tree.
func (t *Tree) at(p string) (*os.Root, string, error) {
	first, rest, _ := strings.Cut(p, "/")
	r := t.roots[first]
	if r == nil {
		return nil, "", fmt.Errorf("%s: %w: this part of configfs was not handed out", p, fs.ErrPermission)
	}
	if rest == "" {
		rest = "."
	}
	return r, rest, nil
}

// Read returns what is there, with the values of the given attributes. One that does not exist is left out.
func (t *Tree) Read(attributes []string) (tree.Snapshot, error) {
	s := tree.Snapshot{Dirs: map[string]bool{}, Links: map[string]string{}, Attrs: map[string]string{}}
	for name := range t.roots {
		if err := t.walk(name, &s); err != nil {
			return s, fmt.Errorf("read configfs: %w", err)
		}
	}
	for _, p := range attributes {
		value, err := t.Attr(p)
		switch {
		case err == nil:
			s.Attrs[p] = value
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission):
			return s, fmt.Errorf("read configfs: %w", err)
		}
	}
	return s, nil
}

func (t *Tree) walk(dir string, s *tree.Snapshot) error {
	r, rest, err := t.at(dir)
	if err != nil {
		return err
	}
	f, err := r.Open(rest)
	if err != nil {
		return err
	}
	entries, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		switch {
		case e.IsDir():
			if tree.Made(p) {
				s.Dirs[p] = true
			}
			if !tree.Enter(p) {
				continue
			}
			if err := t.walk(p, s); err != nil {
				return err
			}
		case e.Type()&fs.ModeSymlink != 0 && tree.MadeLink(p):
			to, err := r.Readlink(path.Join(rest, e.Name()))
			if err != nil {
				return err
			}
			s.Links[p] = t.relative(dir, to)
		}
	}
	return nil
}

// relative turns what a link says – configfs shows it relative to the link – into a path of package tree.
func (t *Tree) relative(dir, to string) string {
	if !path.IsAbs(to) {
		to = path.Join(t.mount, dir, to)
	}
	return strings.TrimPrefix(path.Clean(to), t.mount+"/")
}

// Attr reads one attribute.
func (t *Tree) Attr(p string) (string, error) {
	r, rest, err := t.at(p)
	if err != nil {
		return "", err
	}
	f, err := r.Open(rest)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxAttr))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", p, err)
	}
	return string(b), nil
}

// Do carries one operation out.
func (t *Tree) Do(op tree.Op) error {
	r, rest, err := t.at(op.Path)
	if err != nil {
		return err
	}
	switch op.Do {
	case tree.Mkdir:
		err = r.Mkdir(rest, 0o755)
		if errors.Is(err, fs.ErrExist) { // the directory of a fabric comes with its module, or by our hand
			return nil
		}
	case tree.Rmdir, tree.Unlink:
		err = r.Remove(rest)
		if errors.Is(err, fs.ErrNotExist) { // gone with what it was in
			return nil
		}
	case tree.Symlink:
		err = r.Symlink(path.Join(t.mount, op.Value), rest)
	case tree.Write:
		err = write(r, rest, op.Value)
	}
	return bare(err)
}

// write gives the kernel the value in one call, as attributes want it.
func write(r *os.Root, p, value string) error {
	f, err := r.OpenFile(p, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// bare drops the path, which the operation names already.
func bare(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
