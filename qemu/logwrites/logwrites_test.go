package logwrites

import (
	"context"
	"flag"
	"testing"
	"time"
)

var (
	ops  = flag.Int("ops", 600, "ops that the recorded client does")
	step = flag.Int("step", 3, "every how many flushes the disk is checked")
	seed = flag.Uint64("seed", 1, "of the ops")
)

// TestEveryFlush records a volume's disk in a guest and opens it as it was at the flushes.
func TestEveryFlush(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	o := Options{Dir: t.TempDir(), Seed: *seed, Ops: *ops}
	r, err := Record(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Check(ctx, o, *step, func(entry int, err error) { t.Errorf("at entry %d: %v", entry, err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v, guest %s", res, r.Took)
	t.Logf("soak cached-volume.recorded-flush %d tried, %d lost", res.Tried, res.Lost)
	if res.Acked != *ops || res.Tried < 10 || res.Changes < 4 {
		t.Errorf("the recording shows too little: %+v", res)
	}
}
