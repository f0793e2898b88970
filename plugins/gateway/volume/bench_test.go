package volume

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/filedisk"
)

func fileDisk(b *testing.B, size int) log.Disk {
	b.Helper()
	path := filepath.Join(b.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	d, err := filedisk.New(f)
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// BenchmarkOpen is the time from a formatted disk with 4 MiB in its log to a volume that serves.
func BenchmarkOpen(b *testing.B) {
	store := newStore()
	o := Options{Name: "v", Size: 256 << 20, Disk: fileDisk(b, 64<<20), Store: store, LogSize: 16 << 20}
	for i := 0; b.Loop(); i++ {
		v, err := Open(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if i == 0 {
			store.set(outage)
			if err := v.WriteAt(b.Context(), make([]byte, 4<<20), 0); err != nil {
				b.Fatal(err)
			}
		}
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkWrite4k is one client with one write at a time, each durable before the next.
func BenchmarkWrite4k(b *testing.B) {
	v, err := Open(b.Context(), Options{Name: "v", Size: 256 << 20, Disk: fileDisk(b, 256<<20), Store: newStore(), LogSize: 128 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	p := make([]byte, blockSize)
	b.SetBytes(blockSize)
	for i := int64(0); b.Loop(); i++ {
		if err := v.WriteAt(b.Context(), p, i*7919%65536*blockSize); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead4k reads blocks of the log at random places.
func BenchmarkRead4k(b *testing.B) {
	v, err := Open(b.Context(), Options{Name: "v", Size: 64 << 20, Disk: fileDisk(b, 256<<20), Store: newStore(), LogSize: 128 << 20})
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	if err := v.WriteAt(b.Context(), pattern(1, 64<<20), 0); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, blockSize)
	b.SetBytes(blockSize)
	for i := int64(0); b.Loop(); i++ {
		if !v.TryReadAt(p, i*7919%16384*blockSize) {
			b.Fatal("not local")
		}
	}
}
