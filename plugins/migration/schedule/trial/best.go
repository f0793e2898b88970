package trial

import (
	"math"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/schedule"
)

// Best is the shortest makespan of all orders of jobs, each begun as soon as its links are free and having them for itself. It
// tries every order, leaving out those that are already longer than the best.
func Best(lanes []schedule.Lane, jobs []schedule.Job) time.Duration {
	free := make(map[string]time.Duration, len(lanes))
	rates := make(map[string]float64, len(lanes))
	for _, l := range lanes {
		rates[l.Name] = l.Budget
	}
	best := time.Duration(math.MaxInt64)
	used := make([]bool, len(jobs))
	var try func(placed int, makespan time.Duration)
	try = func(placed int, makespan time.Duration) {
		if makespan >= best {
			return
		}
		if placed == len(jobs) {
			best = makespan
			return
		}
		for i, j := range jobs {
			if used[i] {
				continue
			}
			used[i] = true
			for _, way := range j.Via {
				start, rate := time.Duration(0), math.Inf(1)
				for _, name := range way {
					start = max(start, free[name])
					rate = min(rate, rates[name])
				}
				end := start + schedule.PreCopy(j.Load, schedule.Constant(rate), 300*time.Millisecond).Total
				before := make([]time.Duration, len(way))
				for k, name := range way {
					before[k], free[name] = free[name], end
				}
				try(placed+1, max(makespan, end))
				for k, name := range way {
					free[name] = before[k]
				}
			}
			used[i] = false
		}
	}
	try(0, 0)
	return best
}
