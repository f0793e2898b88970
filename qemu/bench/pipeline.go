package bench

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/core/pipeline/sim"
	"github.com/ratchetos/ratchet/core/pipeline/trial"
)

// Workloads of a kind: computing ones and such with three scarce resources. Each is held against every fixed split.
const (
	computeSeeds  = 20
	transferSeeds = 10
	phases        = 4
	weightedSeeds = 40

	trialRuns   = 9
	trialLength = 3 * time.Second
	quickSeeds  = 2
)

// pipeline measures the allocator against the best that a fixed allocation could have done, and the simulator that this is
// measured with against real work.
func (s *session) pipeline(ctx context.Context) error {
	compute, transfer, runs := computeSeeds, transferSeeds, trialRuns
	if s.Quick {
		compute, transfer, runs = quickSeeds, quickSeeds, 2
	}
	for _, c := range []struct {
		name      string
		phases    int
		mean, min string
	}{{"steady", 1, ">= 0.98", ">= 0.92"}, {"phases", phases, ">= 1.15", ""}} {
		s.note("pipelines, %s: %d workloads against every fixed split", c.name, compute+transfer)
		var workloads []sim.Workload
		for seed := range uint64(compute) {
			workloads = append(workloads, sim.Compute(seed, c.phases))
		}
		for seed := range uint64(transfer) {
			workloads = append(workloads, sim.Transfer(seed, c.phases))
		}
		ratios, equal, tried, err := againstBest(ctx, workloads)
		if err != nil {
			return err
		}
		peer := fmt.Sprintf("the best of all %d and %d fixed splits", tried[0], tried[len(tried)-1])
		s.figures.Record("pipeline."+c.name+"_mean", Figure{Value: mean(ratios), Unit: "x", Goal: c.mean, Peer: peer, N: len(ratios)})
		s.figures.Record("pipeline."+c.name+"_min", Figure{Value: slices.Min(ratios), Unit: "x", Goal: c.min, Peer: peer, N: len(ratios)})
		s.figures.Record("pipeline."+c.name+"_equal_split", Figure{Value: mean(equal), Unit: "x", Peer: peer, N: len(equal)})
	}
	least := 1.0
	for seed := range uint64(weightedSeeds) {
		w := sim.Weighted(seed)
		least = min(least, sim.Jain(sim.Run(w, nil).Used, w))
	}
	s.figures.Record("pipeline.jain_min", Figure{Value: least, Unit: "of 1", Goal: ">= 0.98", Peer: "shares exactly as the weights", N: weightedSeeds})
	return s.trial(ctx, runs)
}

// trial records how far real runs are from what the simulator makes of their costs, in percent.
func (s *session) trial(ctx context.Context, runs int) error {
	dir, err := s.folder("pipeline")
	if err != nil {
		return err
	}
	s.note("real work %d times, each simulated with what it cost", runs)
	off := make(map[string][]float64)
	for range runs {
		outcomes, err := trial.Run(ctx, trial.Options{Dir: dir, Length: trialLength})
		if err != nil {
			return err
		}
		for _, o := range outcomes {
			off[o.Name] = append(off[o.Name], 100*math.Abs(o.Real/o.Simulated-1))
		}
	}
	worst := 0.0
	for _, list := range off {
		worst = max(worst, Median(list))
	}
	s.figures.Record("pipeline.real_off_simulated", Figure{Value: worst, Unit: "%", Goal: "<= 10", Peer: "the simulator fed with the costs of the same run", N: runs})
	return nil
}

// againstBest returns the scores of the scheduler and of an equal split as parts of that of the best fixed split, and how many of
// those there were.
func againstBest(ctx context.Context, workloads []sim.Workload) (ratios, equal []float64, tried []int, err error) {
	ratios, equal, tried = make([]float64, len(workloads)), make([]float64, len(workloads)), make([]int, len(workloads))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, w := range workloads {
		g.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			_, best, n := sim.Best(w)
			even := sim.Equal(w)
			ratios[i], equal[i], tried[i] = sim.Score(w, sim.Run(w, nil))/best, sim.Score(w, sim.Run(w, &even))/best, n
			return nil
		})
	}
	return ratios, equal, tried, g.Wait()
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}
