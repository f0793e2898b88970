package slot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/boot/esp"
)

func TestDevice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "slot")
	const size = 40<<20 + 512 // the last window is not full
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDevice(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Size() != size {
		t.Errorf("size %d", d.Size())
	}
	uki := bytes.Repeat([]byte("unified"), 1<<20)
	v := esp.Volume{Size: d.Size(), Label: "ESP-B"}
	if err := esp.Write(d, v, bytes.NewReader(uki), int64(len(uki))); err != nil {
		t.Fatal(err)
	}
	i, err := esp.Read(d, d.Size())
	if err != nil || i.Length != int64(len(uki)) {
		t.Fatalf("%+v, %v", i, err)
	}
	// Across a window, at odd places, and over the end.
	b := make([]byte, 3)
	for _, at := range []int64{0, window - 1, size - 3} {
		if n, err := d.ReadAt(b, at); n != 3 || err != nil {
			t.Errorf("at %d: %d, %v", at, n, err)
		}
	}
	if n, err := d.ReadAt(b, size-2); n != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("over the end: %d, %v", n, err)
	}
	// A write is seen by the next read, though its window was read before.
	if _, err := d.WriteAt([]byte("xyz"), 5); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(b, 5); err != nil || string(b) != "xyz" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestEFIVars(t *testing.T) {
	v := EFIVars{Dir: t.TempDir()}
	f := Firmware{v}
	if n, err := f.Count(); n != 0 || err != nil {
		t.Errorf("no variable: %d, %v", n, err)
	}
	if err := f.SetCount(3); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(v.path(bootCount, VendorRatchet))
	if err != nil || !bytes.Equal(raw, []byte{7, 0, 0, 0, 3, 0}) {
		t.Errorf("file holds %x, %v", raw, err)
	}
	if repaired, err := f.Repair(slots, "B", nil); !repaired || err != nil {
		t.Fatal(repaired, err)
	}
	if front, err := f.Front(slots); front != "B" || err != nil {
		t.Errorf("front %q, %v", front, err)
	}
	if err := v.Delete("nothing", VendorGlobal); err != nil {
		t.Error(err)
	}
}
