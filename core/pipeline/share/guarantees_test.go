package share

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// The guarantees of the package comment, for any capacity and any pipelines.

func drawCapacity(t *rapid.T) Capacity {
	return Capacity{
		Workers:   float64(rapid.IntRange(1, 64).Draw(t, "workers")),
		Memory:    rapid.SampledFrom([]float64{0, 1e6, 1e9}).Draw(t, "memory"),
		Bandwidth: rapid.SampledFrom([]float64{0, 1e5, 1e8}).Draw(t, "bandwidth"),
	}
}

func drawDemands(t *rapid.T) []Demand {
	stage := rapid.Custom(func(t *rapid.T) Stage {
		return Stage{
			Seconds: rapid.SampledFrom([]float64{0, 1e-6, 1e-3, 0.1, 3}).Draw(t, "seconds"),
			Waits:   rapid.IntRange(0, 3).Draw(t, "waits") == 0,
			Limit:   rapid.SampledFrom([]int{0, 0, 1, 4}).Draw(t, "limit"),
			In:      rapid.Float64Range(0, 1).Draw(t, "in"),
			Out:     rapid.Float64Range(0, 1).Draw(t, "out"),
		}
	})
	demand := rapid.Custom(func(t *rapid.T) Demand {
		return Demand{
			Weight:    rapid.SampledFrom([]float64{0, 0.1, 1, 7}).Draw(t, "weight"),
			Rate:      rapid.SampledFrom([]float64{0, 0, 0.5, 1000}).Draw(t, "rate"),
			Bytes:     rapid.SampledFrom([]float64{0, 4096, 1e6}).Draw(t, "bytes"),
			Send:      rapid.SampledFrom([]float64{0, 4096, 1e6}).Draw(t, "send"),
			MaxMemory: rapid.SampledFrom([]float64{0, 0, 1e6}).Draw(t, "max memory"),
			MaxSend:   rapid.SampledFrom([]float64{0, 0, 1e4}).Draw(t, "max send"),
			Stages:    rapid.SliceOfN(stage, 1, 6).Draw(t, "stages"),
		}
	})
	return rapid.SliceOfN(demand, 1, 8).Draw(t, "demands")
}

// drawPlan comes after some intervals with other measurements, so that corrections and hysteresis are in it.
func drawPlan(t *rapid.T, c Capacity, demands []Demand) Plan {
	var p Plan
	for range rapid.IntRange(0, 3).Draw(t, "intervals before") {
		before := append([]Demand(nil), demands...)
		for i := range before {
			before[i].Stages = append([]Stage(nil), before[i].Stages...)
			for s := range before[i].Stages {
				before[i].Stages[s].Seconds *= rapid.Float64Range(0.5, 2).Draw(t, "was")
			}
		}
		p = Allocate(c, before, p)
	}
	return Allocate(c, demands, p)
}

func TestGrantsAreWithinCapacityAndUseAllOfIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, demands := drawCapacity(t), drawDemands(t)
		p := drawPlan(t, c, demands)
		var w, m, b float64
		computes := false
		for i := range p.Grants {
			g := &p.Grants[i]
			n := sum(g.Workers)
			w, m, b = w+n, m+g.Memory, b+g.Bandwidth
			computes = computes || n > 0
		}
		if computes {
			wantClose(t, "workers", w, c.Workers)
		}
		wantClose(t, "memory", m, c.Memory)
		wantClose(t, "bandwidth", b, c.Bandwidth)
	})
}

func wantClose(t *rapid.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*max(1, want) || math.IsNaN(got) {
		t.Fatalf("%s granted %v, capacity %v", what, got, want)
	}
}

func TestEachHasItsMinimum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, demands := drawCapacity(t), drawDemands(t)
		p := drawPlan(t, c, demands)
		f := floors(c, demands)
		for i := range p.Grants {
			g := &p.Grants[i]
			for s, n := range g.Workers {
				stage := demands[i].Stages[s]
				if stage.Waits && n != 0 {
					t.Fatalf("stage %d of %d waits and has %v workers", s, i, n)
				}
				if !stage.Waits && n < f.workers*(1-1e-9) {
					t.Fatalf("stage %d of %d has %v of a worker, minimum %v", s, i, n, f.workers)
				}
			}
			if g.Memory < f.part*c.Memory*(1-1e-9) || g.Bandwidth < f.part*c.Bandwidth*(1-1e-9) {
				t.Fatalf("pipeline %d has memory %v and bandwidth %v, minimum part %v", i, g.Memory, g.Bandwidth, f.part)
			}
		}
	})
}

// Max-min fairness: who has less of its dominant resource for its weight than another has either all it can use, or meets
// a resource that is used up, by others that have no more than it.
func TestFillIsWeightedMaxMin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, demands := drawCapacity(t), drawDemands(t)
		limits := [resources]float64{c.Workers, c.Memory, c.Bandwidth}
		rates := fill(demands, limits)
		var used need
		level := make([]float64, len(demands))
		needs := make([]need, len(demands))
		for i := range demands {
			needs[i] = demands[i].need(limits)
			for r := range used {
				used[r] += rates[i] * needs[i][r]
			}
			level[i] = rates[i] * needs[i].dominant() / demands[i].weight()
		}
		for r := range used {
			if used[r] > 1+1e-6 {
				t.Fatalf("resource %d is used %v times over", r, used[r])
			}
		}
		for i := range demands {
			if needs[i].dominant() == 0 || rates[i] >= demands[i].most()*(1-1e-6) {
				continue
			}
			held := false
			for r := range used {
				if needs[i][r] == 0 || used[r] < 1-1e-6 {
					continue
				}
				held = true
				for j := range demands {
					if needs[j][r] > 0 && rates[j] < demands[j].most()*(1-1e-6) && level[j] > level[i]*(1+1e-6) && frozenLater(r, i, j, needs, used) {
						held = false
					}
				}
				if held {
					break
				}
			}
			if !held {
				t.Fatalf("pipeline %d at level %v could have more: levels %v, used %v", i, level[i], level, used)
			}
		}
	})
}

// frozenLater reports whether j went on using resource r after i had to stop because of it.
func frozenLater(r, i, j int, needs []need, used need) bool {
	return needs[j][r] > 0 && needs[i][r] > 0 && used[r] >= 1-1e-6
}

func TestSameMeasurementsSamePlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, demands := drawCapacity(t), drawDemands(t)
		for i := range demands {
			for s := range demands[i].Stages {
				demands[i].Stages[s].In, demands[i].Stages[s].Out = 0.5, 0.5 // nothing to correct
			}
		}
		first := Allocate(c, demands, Plan{})
		for i := range demands {
			for s := range demands[i].Stages {
				demands[i].Stages[s].Seconds *= rapid.Float64Range(0.99, 1.01).Draw(t, "noise")
			}
		}
		second := Allocate(c, demands, first)
		for i, g := range second.Grants {
			before := first.Grants[i]
			for s, n := range g.Workers {
				if n != before.Workers[s] {
					t.Fatalf("grant of stage %d of %d went from %v to %v", s, i, before.Workers[s], n)
				}
			}
			if g.Memory != before.Memory || g.Bandwidth != before.Bandwidth {
				t.Fatalf("grants of %d went from %v to %v", i, before, g)
			}
		}
	})
}

// A pipeline whose weight grows gets no less of what it needs most.
func TestWeightPays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, demands := drawCapacity(t), drawDemands(t)
		limits := [resources]float64{c.Workers, c.Memory, c.Bandwidth}
		before := fill(demands, limits)
		i := rapid.IntRange(0, len(demands)-1).Draw(t, "who")
		demands[i].Weight = demands[i].weight() * 2
		if after := fill(demands, limits); after[i] < before[i]*(1-1e-6) {
			t.Fatalf("rate of %d fell from %v to %v", i, before[i], after[i])
		}
	})
}
