package filedisk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

func file(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.WriteAt(make([]byte, size), 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDisk writes past the page cache and reads both ways, with pages of what was there before
// in the cache.
func TestDisk(t *testing.T) {
	for name, own := range map[string]bool{"one file": false, "two files": true} {
		t.Run(name, func(t *testing.T) {
			f := file(t, 1<<20+100)
			var o Options
			if own {
				second, err := os.Open(f.Name())
				if err != nil {
					t.Fatal(err)
				}
				defer second.Close()
				o.Cached = second
			}
			d, err := New(f, o)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.Size() != 1<<20 {
				t.Errorf("size %d", d.Size())
			}
			old := make([]byte, 300)
			if err := d.ReadCached(old, 4000); err != nil {
				t.Fatal(err)
			}
			p := log.AlignedBuffer(3 * log.BlockSize)
			for i := range p {
				p[i] = byte(i * 7)
			}
			if _, err := d.WriteAt(p, 0); err != nil {
				t.Fatal(err)
			}
			if err := d.Sync(); err != nil {
				t.Fatal(err)
			}
			q := log.AlignedBuffer(len(p))
			if _, err := d.ReadAt(q, 0); err != nil || !bytes.Equal(p, q) {
				t.Errorf("direct read: %v", err)
			}
			if err := d.ReadCached(old, 4000); err != nil || !bytes.Equal(old, p[4000:4300]) {
				t.Errorf("cached read after a direct write: %v", err)
			}
			if !d.TryReadCached(old, 4001) || !bytes.Equal(old, p[4001:4301]) {
				t.Error("what was just read is not in the cache")
			}
			if d.TryReadCached(old, 2<<20) || d.ReadCached(old, 2<<20) == nil {
				t.Error("read behind the end succeeded")
			}
			if _, err := d.WriteAt(p, -log.BlockSize); err == nil {
				t.Error("write before the start succeeded")
			}
		})
	}
}

// TestTryReadWaitsForNothing drops a file from the page cache: then there is nothing to read at once.
func TestTryReadWaitsForNothing(t *testing.T) {
	f := file(t, 1<<20)
	d, err := New(f, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(d.cached.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5000)
	// A file system in memory has nothing but its cache.
	if inMemory := fs.Type == unix.TMPFS_MAGIC; d.TryReadCached(p, 100) != inMemory {
		t.Errorf("read of what is not in the cache: %v on a file system of type %#x", !inMemory, fs.Type)
	}
	if err := d.ReadCached(p, 100); err != nil {
		t.Fatal(err)
	}
	if !d.TryReadCached(p, 100) {
		t.Error("what was read is not in the cache")
	}
}
