package volume

import (
	"bytes"
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// coldDisk has a cache that holds nothing, and remembers what it was asked for.
type coldDisk struct {
	*simdisk.Disk
	fetched, read []int64 // positions, block by block; a read of them counts only once
	late          bool    // something was fetched after a read
}

var _ log.CachedReader = (*coldDisk)(nil)

func (d *coldDisk) TryReadCached([]byte, int64) bool { return false }

func (d *coldDisk) ReadCached(p []byte, off int64) error {
	for at := off; at < off+int64(len(p)); at += blockSize {
		d.read = append(d.read, at)
	}
	buf := log.AlignedBuffer(len(p))
	_, err := d.ReadAt(buf, off)
	copy(p, buf)
	return err
}

func (d *coldDisk) Fetch(off, n int64) {
	d.late = d.late || len(d.read) > 0
	for at := off; at < off+n; at += blockSize {
		d.fetched = append(d.fetched, at)
	}
}

// TestScatteredRead: of what lies scattered over the log all is asked for before anything is waited for, and nothing of
// what one read of the disk brings, or of what is in memory.
func TestScatteredRead(t *testing.T) {
	d := &coldDisk{Disk: simdisk.New(4 * testDisk)}
	o := testOptions(d, newStore())
	o.Hold = true
	v := mustOpen(t, o)
	const n = 32
	want := pattern(1, n*blockSize)
	for i := range int64(n) {
		b := i * 5 % n
		mustWrite(t, v, want[b*blockSize:(b+1)*blockSize], b*blockSize)
	}
	for i := range int64(12) { // out of the window with the rest
		mustWrite(t, v, pattern(3, testSegment), 2<<20+i*testSegment)
	}
	if err := v.Flush(limited(t)); err != nil {
		t.Fatal(err)
	}
	young := pattern(4, 2*blockSize)
	mustWrite(t, v, young[blockSize:], 3<<20+blockSize)
	mustWrite(t, v, young[:blockSize], 3<<20)

	if got := mustRead(t, v, 0, n*blockSize); !bytes.Equal(got, want) {
		t.Error("what lies scattered is read as something else")
	}
	slices.Sort(d.fetched)
	slices.Sort(d.read)
	if len(d.fetched) != n || !slices.Equal(d.fetched, d.read) || d.late {
		t.Errorf("fetched %d blocks, read %d of %d, late %v", len(d.fetched), len(d.read), n, d.late)
	}
	d.fetched = nil
	if got := mustRead(t, v, blockSize, blockSize); !bytes.Equal(got, want[blockSize:2*blockSize]) {
		t.Error("one block is read as something else")
	}
	if got := mustRead(t, v, 3<<20, 2*blockSize); !bytes.Equal(got, young) {
		t.Error("what is young is read as something else")
	}
	if len(d.fetched) > 0 {
		t.Errorf("fetched %d blocks that need not be", len(d.fetched))
	}
}
