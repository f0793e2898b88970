package disk

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/esp"
)

// TestRescue: the stick is twice the same, its partition table is whole, and its slot reads back.
func TestRescue(t *testing.T) {
	dir := t.TempDir()
	uki := pattern(3 << 20)
	var images [2][]byte
	for i := range images {
		path := filepath.Join(dir, "rescue.img")
		if err := WriteRescue(path, uki); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		images[i] = b
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("two sticks of one image differ")
	}
	out := tool(t, "gdisk", "sgdisk", "--verify", "--info=1", filepath.Join(dir, "rescue.img"))
	if !strings.Contains(out, "No problems found") || !strings.Contains(out, "Partition name: '"+Rescue+"'") {
		t.Errorf("sgdisk:\n%s", out)
	}
	file, _, err := esp.Find(bytes.NewReader(images[0][firstByte:firstByte+espSize]), espSize)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(file); err != nil || !bytes.Equal(got, uki) {
		t.Errorf("%d bytes read back, %v", len(got), err)
	}
	for _, bad := range [][]byte{nil, make([]byte, espSize)} {
		if err := WriteRescue(filepath.Join(dir, "bad.img"), bad); err == nil {
			t.Errorf("an image of %d bytes was written", len(bad))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "bad.img")); err == nil {
		t.Error("a failed write left something behind")
	}
}
