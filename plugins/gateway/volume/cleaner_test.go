package volume

import (
	"bytes"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// TestManyTrims trims more single blocks than a checkpoint has room for. Once they are in the store the log goes round all the
// same, and they are zeroes still, also after a start.
func TestManyTrims(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	o := testOptions(disk, store)
	o.Size = 256 << 20
	v := mustOpen(t, o)
	want := pattern(1, 64<<10)
	mustWrite(t, v, want, 0)
	const trims = 24_000
	for b := int64(0); b < 2*trims; b += 2 {
		if err := v.Trim(limited(t), b*blockSize, blockSize, false); err != nil {
			t.Fatal(err)
		}
		if at := b * blockSize; at < int64(len(want)) {
			clear(want[at : at+blockSize])
		}
	}
	mustUpload(t, v)
	p := pattern(2, 64<<10)
	for i := range 2 * v.log.Size() / int64(len(p)) {
		mustWrite(t, v, p, 192<<20+i*int64(len(p)))
	}
	mustUpload(t, v)
	for range 2 {
		if !bytes.Equal(mustRead(t, v, 0, int64(len(want))), want) || !allZero(mustRead(t, v, 2*(trims-1)*blockSize, blockSize)) {
			t.Error("data differs")
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		v = mustOpen(t, o)
	}
}
