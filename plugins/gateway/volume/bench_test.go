package volume

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/filedisk"
)

func openFile(b *testing.B, path string, flags int) *os.File {
	b.Helper()
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// fileDisk is a pre-written file below TMPDIR, which must be on a disk for the figures to mean anything.
func fileDisk(b *testing.B, size int) log.Disk {
	b.Helper()
	dir := b.TempDir()
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	d, err := filedisk.New(openFile(b, path, os.O_RDWR|unix.O_DIRECT), filedisk.Options{Cached: openFile(b, path, os.O_RDONLY)})
	if err != nil {
		b.Fatal(err)
	}
	return d
}

func benchVolume(b *testing.B, disk int) *Volume {
	v, err := Open(b.Context(), Options{Name: "v", Size: 256 << 20, Disk: fileDisk(b, disk), Store: newStore()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = v.Close() })
	return v
}

// BenchmarkWrite4k acknowledges in the window, at random places, while the log goes round and batches leave.
func BenchmarkWrite4k(b *testing.B) {
	v := benchVolume(b, 512<<20)
	p := pattern(1, blockSize)
	b.SetBytes(blockSize)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		if off := i * 7919 % 65536 * blockSize; !v.TryWriteAt(p, off) {
			if err := v.WriteAt(b.Context(), p, off, false); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkWriteHeld is the same without uploads, for as long as the log has room.
func BenchmarkWriteHeld(b *testing.B) {
	v := benchVolume(b, 512<<20)
	v.HoldUpload(true)
	p := pattern(1, blockSize)
	b.SetBytes(blockSize)
	b.ReportAllocs()
	for i := int64(0); i < int64(b.N); i++ {
		if !v.TryWriteAt(p, i*7919%65536*blockSize) {
			if i > 60000 {
				b.StopTimer()
				v.HoldUpload(false)
				if err := v.WaitUploaded(b.Context()); err != nil {
					b.Fatal(err)
				}
				v.HoldUpload(true)
				b.StartTimer()
			}
			if err := v.WriteAt(b.Context(), p, i*7919%65536*blockSize, false); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkDurable4k is one client that flushes after each write.
func BenchmarkDurable4k(b *testing.B) {
	v := benchVolume(b, 512<<20)
	p := pattern(1, blockSize)
	b.SetBytes(blockSize)
	for i := int64(0); b.Loop(); i++ {
		if !v.TryWriteAt(p, i*7919%65536*blockSize) {
			b.Fatal("no room")
		}
		if err := v.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRead4k reads blocks of the log at random places, out of the page cache once that is warm.
func BenchmarkRead4k(b *testing.B) {
	v := benchVolume(b, 512<<20)
	if err := v.WriteAt(b.Context(), pattern(1, 64<<20), 0, true); err != nil {
		b.Fatal(err)
	}
	if err := v.WriteAt(b.Context(), pattern(1, 64<<20), 64<<20, true); err != nil { // out of the window with the first
		b.Fatal(err)
	}
	p := make([]byte, 64<<20)
	if err := v.ReadAt(b.Context(), p, 0); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(blockSize)
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		if !v.TryReadAt(p[:blockSize], i*7919%16384*blockSize) {
			b.Fatal("not local")
		}
	}
}
