package builder

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCompress: a disk comes back the same with its holes, what repeats far away is stored once, and a file that was
// cut anywhere is an error.
func TestCompress(t *testing.T) {
	part := make([]byte, 2<<20)
	rand.NewChaCha8([32]byte{7}).Read(part)
	disk := make([]byte, 112<<20)
	copy(disk[1<<20:], part)
	copy(disk[100<<20:], part)
	var packed bytes.Buffer
	if err := Compress(&packed, bytes.NewReader(disk)); err != nil {
		t.Fatal(err)
	}
	if n := packed.Len(); n > len(part)*5/4 {
		t.Errorf("two equal slots of %d bytes take %d", len(part), n)
	}
	unpack := func(b []byte) (*os.File, error) {
		f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f, Decompress(f, bytes.NewReader(b))
	}
	f, err := unpack(packed.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if back, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(back, disk) {
		t.Errorf("the disk comes back different (%v)", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks*512 > 16<<20 {
		t.Errorf("the file takes %d MiB: no holes (%v)", st.Blocks>>11, err)
	}
	for _, n := range []int{1, 20, packed.Len() / 2, packed.Len() - 1} {
		if _, err := unpack(packed.Bytes()[:n]); err == nil {
			t.Errorf("cut at byte %d: no error", n)
		}
	}
}
