package firmware

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/hw/sim"
)

// TestFullState: STATE has no room left when a device is flashed. The attempt is counted in LEDGER and the device gets
// its firmware; what is lost is what "list" would have said of it.
func TestFullState(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatalf("mount a small file system, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	store, err := state.Open(filepath.Join(dir, "core.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() }) // before the unmount
	b.Store = store
	if _, err := b.Flash(t.Context(), id, pack(t, "1.1"), "alice", nil); err != nil {
		t.Fatal(err)
	}
	b.boot(false)
	b.Store = store // that of the boot before

	fill(t, filepath.Join(dir, "fill"))
	if err := store.Put(t.Context(), "test", "key", bytes.Repeat([]byte{1}, 64<<10)); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the store takes more: %v", err)
	}
	r, err := b.Flash(t.Context(), id, pack(t, "1.2"), "alice", nil)
	if err != nil || r.State != Activated || len(b.open) != 1 {
		t.Fatalf("%+v, %v, %d attempts open", r, err, len(b.open))
	}
	if out := b.boot(false); out.Closed != 1 || b.verdictOn(id).Code != "closed" {
		t.Errorf("after the boot: %+v", out)
	}
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); errors.Is(err, unix.ENOSPC) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
