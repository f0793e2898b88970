package ctl

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/image/disk"
)

// reader does something before it gives its text.
type reader struct {
	before func()
	io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	r.before()
	return r.Reader.Read(b)
}

// TestFlashAnother: what was shown is what is overwritten, not what came in its place while somebody was asked.
func TestFlashAnother(t *testing.T) {
	dir := t.TempDir()
	image, target := filepath.Join(dir, "disk.img"), filepath.Join(dir, "target")
	if err := disk.Write(image, disk.Options{UKI: []byte("MZ"), Size: disk.MinSize}); err != nil {
		t.Fatal(err)
	}
	other := []byte("somebody's photographs")
	put := func(data []byte, size int64) {
		if err := os.WriteFile(target, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(target, size); err != nil {
			t.Fatal(err)
		}
	}
	put(nil, disk.MinSize)
	in := reader{func() { put(other, 2*disk.MinSize) }, strings.NewReader("yes\n")}
	err := runFlash(t.Context(), in, io.Discard, image, target, false, "")
	if err == nil || !strings.Contains(err.Error(), "not the disk that was shown") {
		t.Errorf("flashed: %v", err)
	}
	if b := make([]byte, len(other)); readStart(t, target, b) != string(other) {
		t.Errorf("it starts with %q", b)
	}
}

func readStart(t *testing.T, path string, b []byte) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestFlashInterrupted: who presses Ctrl-C at the question is not asked any longer, and nothing was written.
func TestFlashInterrupted(t *testing.T) {
	dir := t.TempDir()
	image, target := filepath.Join(dir, "disk.img"), filepath.Join(dir, "target")
	if err := disk.Write(image, disk.Options{UKI: []byte("MZ"), Size: disk.MinSize}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, []byte("somebody's photographs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(target, disk.MinSize); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	terminal, keyboard := io.Pipe()
	defer keyboard.Close()
	in := reader{cancel, terminal}
	if err := runFlash(ctx, in, io.Discard, image, target, false, ""); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing was written") {
		t.Error(err)
	}
	if err := runFlash(ctx, nil, io.Discard, image, target, true, ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if b := make([]byte, 8); readStart(t, target, b) != "somebody" {
		t.Errorf("it starts with %q", b)
	}
}
