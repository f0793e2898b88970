package memory

import "testing"

func TestTrimmer(t *testing.T) {
	var tr trimmer
	for i, c := range []struct {
		allocated uint64
		due       bool
	}{
		{90 << 20, true}, // the start
		{91 << 20, true},
		{99 << 20, false}, // busy
		{99 << 20, true},
		{99<<20 + quiet, false},
	} {
		if got := tr.due(c.allocated); got != c.due {
			t.Errorf("look %d, %d bytes: %v", i, c.allocated, got)
		}
	}
}

func TestAllocated(t *testing.T) {
	before := allocated()
	kept := make([]byte, 1<<20)
	if after := allocated(); after < before+uint64(len(kept)) {
		t.Errorf("%d bytes allocated, then %d", before, after)
	}
}

func TestTrimEnds(t *testing.T) {
	done := make(chan struct{})
	close(done)
	Trim(done)
}
