package update

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

const benched = 25 << 20

// BenchmarkSlot writes an image of 25 MiB into a slot, durable, and reads it back, as Apply does. Compare with
// BenchmarkRaw; the goal is 1.2 of it.
func BenchmarkSlot(b *testing.B) {
	node, image := benchSlot(b)
	m := New(Options{
		Report: &verdict.Report{BootDisk: verdict.Disk{Slots: []verdict.DiskSlot{{Name: "B", Node: node}}}},
		Clock:  func() time.Duration { return 0 },
	})
	for b.Loop() {
		r := Result{Bytes: benched}
		if err := m.write(b.Context(), "B", bytes.NewReader(image), func(string, int64, int64) {}, &r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRaw writes and reads as many bytes with nothing else.
func BenchmarkRaw(b *testing.B) {
	node, image := benchSlot(b)
	f, err := os.OpenFile(node, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	direct, err := unix.Open(node, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(direct)
	buf, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for at := 0; at < benched; at += len(buf) {
			if _, err := f.WriteAt(image[at:at+len(buf)], int64(at)); err != nil {
				b.Fatal(err)
			}
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		for at := 0; at < benched; at += len(buf) {
			if _, err := unix.Pread(direct, buf, int64(at)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func benchSlot(b *testing.B) (node string, image []byte) {
	b.SetBytes(benched)
	node = filepath.Join(b.TempDir(), "slot")
	if err := os.WriteFile(node, make([]byte, 96<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	d, err := slot.OpenDevice(node, true)
	if err != nil {
		b.Fatal(err)
	}
	d.Close()
	return node, bytes.Repeat([]byte("image"), benched/5)
}
