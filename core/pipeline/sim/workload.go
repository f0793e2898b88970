package sim

import (
	"math"
	"math/rand/v2"
	"time"
)

// Workload is what is to be done, and with what.
type Workload struct {
	Workers   int
	Memory    float64 // bytes in flight; 0 is without limit
	Bandwidth float64 // bytes a second; 0 is without limit
	Pipelines []Pipeline
	Phases    int           // of the same length; 0 means 1
	Length    time.Duration // of the run
	Queue     int           // before each stage; 0 means 16
	Seed      uint64
}

// Pipeline has always another item waiting.
type Pipeline struct {
	Weight float64
	Bytes  float64 // an item holds from its first stage to its last
	Stages []Stage
}

// Stage of a pipeline.
type Stage struct {
	// Cost of an item by phase, in seconds.
	Cost []float64
	// Waits, Sends and Limit as in package pipeline. A stage that sends sends its item's bytes.
	Waits, Sends bool
	Limit        int
}

// spread is how much the cost of one item may differ from the stage's.
const spread = 0.3

// cost of an item at a stage, the same in every run.
func (w *Workload) cost(p, stage, item, phase int) float64 {
	h := w.Seed*0x9e3779b97f4a7c15 ^ uint64(p)<<56 ^ uint64(stage)<<48 ^ uint64(item)
	h ^= h >> 31
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 29
	h *= 0x94d049bb133111eb
	h ^= h >> 32
	at := float64(h>>11) / (1 << 53) // 0 to 1
	return w.Pipelines[p].Stages[stage].Cost[phase] * (1 - spread + 2*spread*at)
}

// Costs are drawn from one millisecond to twelve: an item takes a hundredth to an eighth of the time between two plans.
const millisecond = 1e-3

// length of a run: with phases, each lasts as long as twenty plans.
func length(phases int) time.Duration {
	if phases == 1 {
		return 3 * time.Second
	}
	return time.Duration(phases) * 2 * time.Second
}

// Compute makes two pipelines of three computing stages for twelve workers, whose costs differ by up to twelve times and
// are drawn anew for each phase.
func Compute(seed uint64, phases int) Workload {
	r := rand.New(rand.NewPCG(seed, uint64(phases)))
	w := Workload{Workers: 12, Phases: phases, Length: length(phases), Queue: 64, Seed: seed}
	for range 2 {
		p := Pipeline{Weight: 1}
		for range 3 {
			s := Stage{}
			for range phases {
				s.Cost = append(s.Cost, millisecond*math.Exp(r.Float64()*math.Log(12)))
			}
			p.Stages = append(p.Stages, s)
		}
		w.Pipelines = append(w.Pipelines, p)
	}
	return w
}

// Transfer makes two pipelines that compute, compute again and send, for six workers, with little enough memory and
// bandwidth that each of the three resources is the scarce one in some.
func Transfer(seed uint64, phases int) Workload {
	r := rand.New(rand.NewPCG(seed, 1000+uint64(phases)))
	w := Workload{
		Workers: 6, Memory: 4 << 20, Bandwidth: 40 << 20, Phases: phases, Length: length(phases), Queue: 64, Seed: seed,
	}
	for range 2 {
		p := Pipeline{Weight: 1, Bytes: float64(int(16<<10) << r.IntN(4))}
		for k := range 3 {
			s := Stage{Waits: k == 2, Sends: k == 2}
			if s.Waits {
				s.Limit = 16
			}
			for range phases {
				s.Cost = append(s.Cost, millisecond*math.Exp(r.Float64()*math.Log(12)))
			}
			p.Stages = append(p.Stages, s)
		}
		w.Pipelines = append(w.Pipelines, p)
	}
	return w
}

// Weighted makes three pipelines of different weights.
func Weighted(seed uint64) Workload {
	r := rand.New(rand.NewPCG(seed, 2000))
	w := Compute(seed, 1)
	w.Pipelines = append(w.Pipelines, Compute(seed+1000, 1).Pipelines[0])
	for i := range w.Pipelines {
		w.Pipelines[i].Weight = float64(1 + r.IntN(5))
	}
	return w
}
