package trial

import (
	"math/rand/v2"
	"testing"
	"time"
)

var epoch = time.Date(2026, 3, 2, 20, 0, 0, 0, time.UTC)

// TestBatch: several VMs over two links are done almost as early as in the best of all orders, and no second carries more than
// the budget, though hypervisors are off by 3 %.
func TestBatch(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 7))
		lanes := Lanes(rng)
		jobs := Jobs(rng, 6, epoch)
		r, err := Run(lanes, jobs, epoch, .03, seed)
		if err != nil {
			t.Fatal(err)
		}
		best := Best(lanes, jobs)
		t.Logf("seed %d: makespan %v, best %v (%.3f), peak %.3f", seed, r.Makespan, best, r.Makespan.Seconds()/best.Seconds(), r.Peak)
		if r.Unfinished > 0 || r.Makespan.Seconds() > 1.1*best.Seconds() || r.Peak > 1.05 {
			t.Errorf("seed %d: %d unfinished, makespan %v against %v, peak %.3f of the budget", seed, r.Unfinished, r.Makespan, best, r.Peak)
		}
	}
}

// TestPriority: a job of high priority that comes while others run is done almost as soon as if it were alone.
func TestPriority(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 8))
		lanes := Lanes(rng)
		jobs := Jobs(rng, 6, epoch)
		urgent := Jobs(rng, 1, epoch.Add(5*time.Second))[0]
		urgent.ID, urgent.VM, urgent.Priority, urgent.Via = "urgent", "urgent", 10, [][]string{{"a"}}
		alone, err := Run(lanes, append(jobs[:0:0], urgent), epoch, .03, seed)
		if err != nil {
			t.Fatal(err)
		}
		among, err := Run(lanes, append(jobs, urgent), epoch, .03, seed)
		if err != nil {
			t.Fatal(err)
		}
		ratio := among.Took["urgent"].Seconds() / alone.Took["urgent"].Seconds()
		t.Logf("seed %d: %.3f × its time alone, peak %.3f", seed, ratio, among.Peak)
		if ratio > 1.2 || among.Peak > 1.05 || among.Unfinished > 0 {
			t.Errorf("seed %d: %.3f × its time alone, peak %.3f, %d unfinished", seed, ratio, among.Peak, among.Unfinished)
		}
	}
}
