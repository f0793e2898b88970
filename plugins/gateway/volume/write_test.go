package volume

import (
	"bytes"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// TestLongWrite writes more at once than the log's window holds, with nothing that would free space: it is appended once.
func TestLongWrite(t *testing.T) {
	o := testOptions(simdisk.New(4*testDisk), newStore())
	o.Hold = true
	v := mustOpen(t, o)
	want := pattern(1, 16*testSegment)
	mustWrite(t, v, want, 0)
	if used := v.log.Used(); used > int64(len(want))*5/4 {
		t.Errorf("%d bytes take %d of the log", len(want), used)
	}
	if got := mustRead(t, v, 0, int64(len(want))); !bytes.Equal(got, want) {
		t.Error("it is read as something else")
	}
}
