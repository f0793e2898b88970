package core

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/api"
)

// TestStagingFull: a package that STATE has no room for leaves nothing behind, and the next one that fits is taken.
func TestStagingFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount a small file system, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	var s staging
	piece := bytes.Repeat([]byte{7}, 48<<10)
	if n, err := s.add(dir, 0, piece); err != nil || n != 48<<10 {
		t.Fatalf("%d, %v", n, err)
	}
	n, err := s.add(dir, 48<<10, piece)
	if !errors.Is(err, api.ErrPrecondition) || n != 0 || !strings.Contains(err.Error(), "no room for the package in "+dir) {
		t.Fatalf("%d, %v", n, err)
	}
	if _, err := s.add(dir, 48<<10, piece); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("the package goes on after it was dropped: %v", err)
	}
	if f, size := s.take(); f != nil || size != 0 {
		t.Errorf("%d bytes are staged", size)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if n, err := s.add(dir, 0, piece); err != nil || n != 48<<10 {
		t.Errorf("the next one: %d, %v", n, err)
	}
	if f, size := s.take(); f == nil || size != 48<<10 {
		t.Errorf("the next one: %d bytes", size)
	} else {
		f.Close()
	}
}
