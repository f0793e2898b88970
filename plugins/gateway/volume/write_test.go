package volume

import (
	"bytes"
	"context"
	"errors"
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

// TestNothingIsWrittenAfterTheEnd: a write whose client has gone does not come after what others have written since.
func TestNothingIsWrittenAfterTheEnd(t *testing.T) {
	v := mustOpen(t, testOptions(simdisk.New(testDisk), newStore()))
	want := pattern(1, 2*blockSize)
	mustWrite(t, v, want, 0)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for what, change := range map[string]func() error{
		"blocks":          func() error { return v.WriteAt(ended, pattern(2, 2*blockSize), 0, false) },
		"part of a block": func() error { return v.WriteAt(ended, []byte("late"), 300, false) },
		"zeroes":          func() error { return v.Zero(ended, 0, blockSize, false) },
	} {
		for range 40 { // each may find that there is room before it finds that it is too late
			if err := change(); !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if !bytes.Equal(mustRead(t, v, 0, int64(len(want))), want) {
			t.Errorf("%s were written", what)
		}
	}
}
