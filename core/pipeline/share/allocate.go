package share

// Grant is what one pipeline gets. What it does not use goes to others until it needs it.
type Grant struct {
	Rate      float64   // items a second that the model expects
	Workers   []float64 // by stage; 0 for one that waits
	Memory    float64   // bytes in flight; 0 is without limit
	Bandwidth float64   // bytes a second; 0 is without limit
}

// Plan holds the grants of all pipelines, in the order of the demands. The zero value grants nothing.
type Plan struct {
	Grants []Grant
	// corrections by stage, what queues have taught about the model's proposal
	corrections [][]float64
	basis       basis
	measured    []float64 // what the grants were made from
}

// basis is what a plan rests on besides measurements; when it changes the plan is made anew.
type basis struct {
	capacity Capacity
	shape    uint64 // hash of weights, limits and stages
}

const (
	// hysteresis is the relative change below which a plan stays as it is.
	hysteresis = 0.1
	// noise is the relative change of a measurement below which it counts as the same.
	noise = 0.02
	// minWorkers is the least part of a worker that a stage is granted, minPart the least part of memory and
	// bandwidth a pipeline is.
	minWorkers = 0.02
	minPart    = 0.01
	// reserved is the most that all these minimums together may take from a resource.
	reserved = 0.1
)

// Allocate makes the next plan from the last one and what was measured since.
func Allocate(c Capacity, demands []Demand, last Plan) Plan {
	next := Plan{basis: basis{c, shape(demands)}}
	same := next.basis == last.basis
	floor := floors(c, demands)
	available := [resources]float64{
		workers:   c.Workers * (1 - floor.workers*count(demands)/max(c.Workers, tolerance)),
		memory:    c.Memory * (1 - floor.part*float64(len(demands))),
		bandwidth: c.Bandwidth * (1 - floor.part*float64(len(demands))),
	}
	rates := fill(demands, available)
	for i := range demands {
		d := &demands[i]
		correction := make([]float64, len(d.Stages))
		for s := range correction {
			correction[s] = 1
			if same {
				correction[s] = correct(last.corrections[i][s], &d.Stages[s])
			}
		}
		next.corrections = append(next.corrections, correction)
		next.Grants = append(next.Grants, grant(d, rates[i], correction))
	}
	spread(available, demands, next.Grants)
	floor.add(c, next.Grants, demands)
	next.measured = measured(demands, next.corrections)
	if same && (unchanged(last.measured, next.measured) || settled(c, last.Grants, next.Grants)) {
		for i := range next.Grants { // the rate is news and binds nobody
			last.Grants[i].Rate = next.Grants[i].Rate
		}
		next.Grants, next.measured = last.Grants, last.measured
	}
	return next
}

// grant turns a rate into resources. Corrections move workers between the stages of a pipeline, not to others.
func grant(d *Demand, rate float64, correction []float64) Grant {
	g := Grant{Rate: rate, Workers: make([]float64, len(d.Stages))}
	var busy, compute, corrected float64
	for i := range d.Stages {
		s := &d.Stages[i]
		busy += s.seconds()
		if s.Waits {
			continue
		}
		compute += s.seconds()
		g.Workers[i] = s.seconds() * correction[i]
		corrected += g.Workers[i]
	}
	for i := range d.Stages {
		if !d.Stages[i].Waits {
			g.Workers[i] *= rate * compute / corrected
		}
	}
	g.Memory = rate * d.Bytes * busy * residence
	g.Bandwidth = rate * d.Send
	return g
}

// spread grants what the model left over, by weight: who comes back or gets more to do need not wait for the next plan.
func spread(c [resources]float64, demands []Demand, grants []Grant) {
	var used, weight [resources]float64
	for i := range demands {
		w := demands[i].weight()
		if n := sum(grants[i].Workers); n > 0 {
			used[workers] += n
			weight[workers] += w
		}
		used[memory] += grants[i].Memory
		used[bandwidth] += grants[i].Bandwidth
		weight[memory] += w
		weight[bandwidth] += w
	}
	for i := range demands {
		w := demands[i].weight()
		part := func(r int) float64 { return max(0, c[r]-used[r]) * w / weight[r] }
		if n := sum(grants[i].Workers); n > 0 {
			more := 1 + part(workers)/n
			for s := range grants[i].Workers {
				grants[i].Workers[s] *= more
			}
		}
		if c[memory] > 0 {
			grants[i].Memory += part(memory)
		} else {
			grants[i].Memory = 0
		}
		if c[bandwidth] > 0 {
			grants[i].Bandwidth += part(bandwidth)
		} else {
			grants[i].Bandwidth = 0
		}
	}
}

func sum(list []float64) (n float64) {
	for _, f := range list {
		n += f
	}
	return n
}

// count is the number of stages that take a worker.
func count(demands []Demand) (n float64) {
	for i := range demands {
		for s := range demands[i].Stages {
			if !demands[i].Stages[s].Waits {
				n++
			}
		}
	}
	return n
}

// floor is the minimum grant; it shrinks when there are so many stages that it would take more than its part.
type floor struct{ workers, part float64 }

func floors(c Capacity, demands []Demand) floor {
	return floor{
		workers: min(minWorkers, reserved*c.Workers/max(1, count(demands))),
		part:    min(minPart, reserved/float64(max(1, len(demands)))),
	}
}

func (f floor) add(c Capacity, grants []Grant, demands []Demand) {
	for i := range grants {
		for s := range grants[i].Workers {
			if !demands[i].Stages[s].Waits {
				grants[i].Workers[s] += f.workers
			}
		}
		grants[i].Memory += f.part * c.Memory
		grants[i].Bandwidth += f.part * c.Bandwidth
	}
}
