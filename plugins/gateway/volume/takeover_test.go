package volume

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// TestTakeoverTriesAgain: a disk that was there does not give the volume up for an error that nobody knows; it is tried again.
func TestTakeoverTriesAgain(t *testing.T) {
	store, disk := newStore(), simdisk.New(testDisk)
	v := mustOpen(t, testOptions(disk, store))
	mustUpload(t, v)
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	var tries atomic.Int32
	store.set(func(op, _ string) error {
		if op == "load" && tries.Add(1) <= 3 {
			return errors.New("odd")
		}
		return nil
	})
	v = mustOpen(t, testOptions(disk, store))
	mustWrite(t, v, bytes.Repeat([]byte{1}, 4096), 0)
	mustUpload(t, v)
	if n := tries.Load(); n <= 3 {
		t.Errorf("%d tries", n)
	}
}
