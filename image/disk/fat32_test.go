package disk

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	diskfs "github.com/diskfs/go-diskfs"
)

// TestFAT32 writes volumes and files of awkward sizes and has fsck.fat and go-diskfs read them.
func TestFAT32(t *testing.T) {
	for _, c := range []struct{ size, file int64 }{
		{34 * mib, 1},          // one sector a cluster, the smallest FAT32 there is
		{64 * mib, 512},        // the size that go-diskfs lays out wrongly
		{96 * mib, 1024},       // exactly one cluster
		{96 * mib, 1025},       // and one byte more
		{34 * mib, 33 * mib},   // nearly full
		{140 * mib, 3*mib + 7}, /* four sectors a cluster */
	} {
		t.Run(fmt.Sprintf("%d-%d", c.size, c.file), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fat.img")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := f.Truncate(c.size); err != nil {
				t.Fatal(err)
			}
			want := pattern(int(c.file))
			if err := writeFAT32(f, c.size, 2048, "ESP-A", want); err != nil {
				t.Fatal(err)
			}
			tool(t, "dosfstools", "fsck.fat", "-n", path)
			d, err := diskfs.Open(path, diskfs.WithOpenMode(diskfs.ReadOnly))
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			fs, err := d.GetFilesystem(0)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := fs.ReadFile(BootPath); err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, want %d (%v)", len(got), len(want), err)
			}
		})
	}
}

func TestFAT32Refuses(t *testing.T) {
	for _, c := range []struct{ size, file int64 }{
		{32 * mib, 1}, // too few clusters for a FAT32
		{0, 1},
		{96 * mib, 0},
		{96 * mib, 96 * mib},
	} {
		if err := writeFAT32(discard{}, c.size, 0, "X", make([]byte, c.file)); err == nil {
			t.Errorf("volume of %d with a file of %d: no error", c.size, c.file)
		}
	}
}

type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }
