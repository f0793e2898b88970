package boot

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw"
)

// stickTries is how often a USB controller without a disk is asked again: somebody says that there is a stick.
const stickTries = 5

// bundleFirst is how an update bundle begins: a tar whose first member is this.
const bundleFirst = "manifest.json"

// Sticks finds update bundles on disks that somebody has plugged in.
type Sticks interface {
	// Bundle opens the update bundle on a disk: written to the disk or a partition of it as it is, or a file in
	// the root of a FAT file system. name says where it was found. Without one it is ErrNoBundle.
	Bundle(node string) (r io.ReadSeekCloser, name string, err error)
}

// ErrNoBundle says that a disk holds no update bundle.
var ErrNoBundle = errors.New("no update bundle (*.bundle on FAT, or written to a partition)")

// sticks are those of the running system.
type sticks struct {
	load func(module string) error
	dir  string // where FAT file systems are mounted
}

var _ Sticks = sticks{}

// Bundle implements Sticks.
func (s sticks) Bundle(node string) (io.ReadSeekCloser, string, error) {
	disk := filepath.Base(node)
	parts, err := filepath.Glob(filepath.Join("/sys/class/block", disk, disk+"*"))
	if err != nil {
		return nil, "", fmt.Errorf("list partitions of %s: %w", node, err)
	}
	nodes := []string{node}
	for _, p := range parts {
		nodes = append(nodes, "/dev/"+filepath.Base(p))
	}
	for _, n := range nodes {
		r, err := rawBundle(n)
		if err != nil {
			return nil, "", err
		}
		if r != nil {
			return r, n, nil
		}
	}
	for _, n := range nodes {
		if r, name, err := s.fatBundle(n); err != nil || r != nil {
			return r, name, err
		}
	}
	return nil, "", ErrNoBundle
}

// rawBundle opens a bundle that lies on a block device, nil when there is none. Behind its end is whatever was
// there before, and that is not part of it.
func rawBundle(node string) (io.ReadSeekCloser, error) {
	f, err := os.Open(node)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", node, err)
	}
	n := bundleLength(f)
	if n == 0 {
		return nil, f.Close()
	}
	return opened{io.NewSectionReader(f, 0, n), f.Close}, nil
}

type opened struct {
	io.ReadSeeker
	close func() error
}

func (o opened) Close() error { return o.close() }

// bundleLength is how long the tar at the start of r is, 0 when it is none of ours. Only its headers are read;
// the bundle's own reader judges it.
func bundleLength(r io.ReaderAt) int64 {
	s := io.NewSectionReader(r, 0, 1<<40)
	t := tar.NewReader(s)
	for members := range 5 { // one more than a bundle has
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF) && members > 0:
			n, err := s.Seek(0, io.SeekCurrent)
			if err != nil {
				return 0
			}
			return n
		case err != nil, members == 0 && h.Name != bundleFirst:
			return 0
		}
	}
	return 0
}

// fatBundle looks into a FAT file system. It is the operator's own stick, and it is mounted read-only; what
// is taken from it is verified as if it came from a stranger.
func (s sticks) fatBundle(node string) (io.ReadSeekCloser, string, error) {
	if !isFAT(node) {
		return nil, "", nil
	}
	for _, m := range []string{"vfat", "nls_cp437", "nls_ascii"} {
		if err := s.load(m); err != nil {
			return nil, "", err
		}
	}
	m := mount{node, s.dir, "vfat", safe | unix.MS_RDONLY, ""}
	if err := m.do(); err != nil {
		return nil, "", err
	}
	unmount := func() error { return unix.Unmount(s.dir, 0) }
	found, err := bundlesIn(s.dir)
	switch {
	case err == nil && len(found) > 1:
		err = fmt.Errorf("%s has %d bundles; leave the one that is meant", node, len(found))
	case err == nil && len(found) == 1:
		var f *os.File
		if f, err = os.Open(found[0]); err == nil {
			return opened{f, func() error { return errors.Join(f.Close(), unmount()) }}, node + " " + filepath.Base(found[0]), nil
		}
	}
	return nil, "", errors.Join(err, unmount())
}

// bundlesIn finds the bundles in a folder. FAT does not tell capitals; hidden files are what systems that copied them
// leave beside them.
func bundlesIn(dir string) (found []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && strings.EqualFold(filepath.Ext(name), ".bundle") {
			found = append(found, filepath.Join(dir, name))
		}
	}
	return found, err
}

// isFAT looks at the boot sector (Microsoft FAT32 specification 1.03: signature, and the type's name).
func isFAT(node string) bool {
	f, err := os.Open(node)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, 512)
	if _, err := io.ReadFull(f, b); err != nil {
		return false
	}
	return b[510] == 0x55 && b[511] == 0xAA && (bytes.HasPrefix(b[54:], []byte("FAT")) || bytes.HasPrefix(b[82:], []byte("FAT32")))
}

// withSticks binds the USB controllers that the boot disk is not behind, one at a time, and gives each of their disks
// to use until it is content. A controller that nobody had looked behind yet is isolated again.
func (c *check) withSticks(ctx context.Context, use func(hw.Device) (bool, error)) error {
	functions, err := c.Hardware.Functions()
	if err != nil {
		return err
	}
	var seen []string
	for _, f := range functions {
		if f.Bus != "usb" || !f.Supported || f.Place == c.controller {
			continue
		}
		disks, err := waitForDisks(ctx, c.Hardware.Bind, f.Place, stickTries)
		if err != nil {
			seen = append(seen, fmt.Sprintf("%s: %v", f.Place, err)) // the stick may be behind another
		}
		done := false
		for _, d := range disks {
			if done, err = use(d); done {
				break
			}
			seen = append(seen, fmt.Sprintf("%s: %v", d.ID, err))
		}
		var isolate error
		if c.seen == nil {
			isolate = c.Hardware.Isolate(f.Place)
		}
		if done {
			return errors.Join(err, isolate)
		}
		if isolate != nil {
			return isolate
		}
	}
	if len(seen) == 0 {
		return errors.New("there is no USB disk; plug the stick in and try again")
	}
	return errors.New(strings.Join(seen, "; "))
}
