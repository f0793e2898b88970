package sim

import (
	"reflect"
	"testing"
	"time"
)

// A sample of what `make bench AREA=pipeline` measures on more seeds.
func TestAgainstBestStatic(t *testing.T) {
	for _, c := range []struct {
		name  string
		make  func(seed uint64, phases int) Workload
		at    []uint64
		phase int
		least float64
	}{
		{"computing, steady", Compute, []uint64{1}, 1, 0.98},
		{"three resources, steady", Transfer, []uint64{5}, 1, 0.98},
		{"computing, four phases", Compute, []uint64{4}, 4, 1.15},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, seed := range c.at {
				w := c.make(seed, c.phase)
				w.Length /= time.Duration(c.phase)
				_, best, tried := Best(w)
				if ratio := Score(w, Run(w, nil)) / best; ratio < c.least {
					t.Errorf("seed %d: %.3f of the best of %d fixed splits, want %.2f", seed, ratio, tried, c.least)
				}
			}
		})
	}
}

func TestSharesFollowWeights(t *testing.T) {
	for seed := range uint64(8) {
		w := Weighted(seed)
		if j := Jain(Run(w, nil).Used, w); j < 0.98 {
			t.Errorf("seed %d: Jain's index %.4f, want 0.98", seed, j)
		}
	}
}

func TestSameSeedSameRun(t *testing.T) {
	w := Transfer(7, 4)
	if a, b := Run(w, nil), Run(w, nil); !reflect.DeepEqual(a, b) {
		t.Errorf("two runs: %v and %v", a, b)
	}
}

// What can be worked out by hand.
func TestKnownThroughput(t *testing.T) {
	one := func(stages ...Stage) Workload {
		return Workload{Workers: 4, Length: 10 * time.Second, Pipelines: []Pipeline{{Weight: 1, Bytes: 1000, Stages: stages}}}
	}
	compute := func(ms float64) Stage { return Stage{Cost: []float64{ms * millisecond}} }
	wait := func(ms float64, limit int) Stage {
		return Stage{Cost: []float64{ms * millisecond}, Waits: true, Limit: limit}
	}
	limited := func(w Workload, memory, bandwidth float64) Workload {
		w.Memory, w.Bandwidth = memory, bandwidth
		return w
	}
	send := wait(1, 4)
	send.Sends = true
	for _, c := range []struct {
		name  string
		w     Workload
		split *Split
		want  float64 // items in all
	}{
		{"workers", one(compute(3), compute(5)), nil, 5000},
		{"a fixed split", one(compute(3), compute(5)), &Split{Workers: [][]int{{2, 2}}, Memory: even(1), Bandwidth: even(1)}, 4000},
		{"calls at once", one(compute(1), wait(20, 8)), nil, 4000},
		{"bandwidth", limited(one(compute(1), send), 0, 100_000), nil, 1000},
		{"memory", limited(one(compute(1), wait(100, 64)), 10_000, 0), nil, 990},
	} {
		if got := Run(c.w, c.split).Done[0]; got < c.want*0.97 || got > c.want*1.03 {
			t.Errorf("%s: %.0f items, want %.0f", c.name, got, c.want)
		}
	}
}

func TestCompositions(t *testing.T) {
	if n := len(compositions(12, 6)); n != 462 {
		t.Errorf("%d ways to give 12 workers to 6 stages, want 462", n)
	}
	if got := compositions(4, 2); !reflect.DeepEqual(got, [][]int{{1, 3}, {2, 2}, {3, 1}}) {
		t.Errorf("compositions of 4 in 2: %v", got)
	}
}
