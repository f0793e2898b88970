package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pins is a folder on a bpffs: <root>/<name>/v<layout>.
type Pins struct {
	dir string
}

// LayoutError says that a folder holds pins of other layouts than the one asked for. They belong to another
// version of the program; whoever opens decides whether they are read, left for a fallback, or removed.
type LayoutError struct {
	Dir    string // <root>/<name>
	Want   uint32
	Others []uint32
}

func (e *LayoutError) Error() string {
	return fmt.Sprintf("%s: pinned with layout %v, this version uses %d; remove the folder to start with empty tables", e.Dir, e.Others, e.Want)
}

// OpenPins makes the folder if it is not there. With pins of another layout beside it the folder is made all the
// same and both it and a *LayoutError are returned.
func OpenPins(root, name string, layout uint32) (*Pins, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, fmt.Errorf("statfs %s: %w", root, err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		return nil, fmt.Errorf("%s is not on a bpffs; mount one there: mount -t bpf bpf %[1]s", root)
	}
	p := &Pins{dir: filepath.Join(root, name, "v"+strconv.FormatUint(uint64(layout), 10))}
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	others, err := layouts(filepath.Dir(p.dir), layout)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		return p, &LayoutError{Dir: filepath.Dir(p.dir), Want: layout, Others: others}
	}
	return p, nil
}

func layouts(dir string, except uint32) ([]uint32, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []uint32
	for _, e := range entries {
		n, err := strconv.ParseUint(strings.TrimPrefix(e.Name(), "v"), 10, 32)
		if err == nil && uint32(n) != except {
			found = append(found, uint32(n))
		}
	}
	return found, nil
}

// Path is where a file of this folder is, or would be.
func (p *Pins) Path(file string) string { return filepath.Join(p.dir, file) }

// Remove unpins everything in the folder. Programs that only a pinned link held leave their interfaces with it.
func (p *Pins) Remove() error {
	if err := os.RemoveAll(p.dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
