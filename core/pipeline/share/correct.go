package share

import (
	"hash/fnv"
	"math"
)

// A queue that is fuller than nearlyFull shows that the stage after it is behind, one emptier than nearlyEmpty
// that it has nothing to do.
const (
	nearlyFull  = 0.75
	nearlyEmpty = 0.25
)

// Bounds of a correction and its steps: up fast, because a stage that holds up its pipeline costs throughput; back to 1
// slowly, because an empty queue is what success looks like.
const (
	maxCorrection = 2.0
	minCorrection = 0.5
	raise         = 1.15
	lower         = 0.9
	forget        = 0.95
)

// correct returns the factor for the model's proposal for a stage, from the last one and the queues around it.
func correct(last float64, s *Stage) float64 {
	switch {
	case s.In >= nearlyFull && s.Out <= nearlyEmpty:
		return min(maxCorrection, last*raise)
	case s.In <= nearlyEmpty && s.Out >= nearlyFull:
		return max(minCorrection, last*lower)
	}
	return 1 + (last-1)*forget
}

// measured lists what a plan is made from besides its basis.
func measured(demands []Demand, corrections [][]float64) (list []float64) {
	for i := range demands {
		d := &demands[i]
		list = append(list, d.Rate, d.Bytes, d.Send)
		for s := range d.Stages {
			list = append(list, d.Stages[s].Seconds, corrections[i][s])
		}
	}
	return list
}

// unchanged reports whether two lists of measurements differ by noise only. Grants alone do not tell: where one pipeline
// lives on what others leave over, a hundredth more of theirs can halve its own.
func unchanged(before, now []float64) bool {
	for i := range now {
		if math.Abs(before[i]-now[i]) > noise*max(before[i], now[i]) {
			return false
		}
	}
	return true
}

// settled reports whether the new grants are so close to the old ones that those stay. It is all or nothing: a mixture of
// two plans would not sum up to the capacity.
func settled(c Capacity, before, now []Grant) bool {
	for i := range now {
		a, b := &before[i], &now[i]
		if !near(a.Memory, b.Memory, c.Memory) || !near(a.Bandwidth, b.Bandwidth, c.Bandwidth) {
			return false
		}
		for s := range b.Workers {
			if !near(a.Workers[s], b.Workers[s], c.Workers) {
				return false
			}
		}
	}
	return true
}

// near reports whether two grants differ by less than the hysteresis, of the larger one or of a quarter of all there is:
// of what is left over by others, a large part may come and go with a small change of theirs.
func near(a, b, capacity float64) bool { return math.Abs(a-b) <= hysteresis*max(a, b, capacity/4) }

// shape identifies everything in the demands that is configured and not measured.
func shape(demands []Demand) uint64 {
	h := fnv.New64a()
	word := func(f float64) {
		n := math.Float64bits(f)
		var b [8]byte
		for i := range b {
			b[i] = byte(n >> (8 * i))
		}
		h.Write(b[:])
	}
	for i := range demands {
		d := &demands[i]
		for _, f := range []float64{d.weight(), d.MaxMemory, d.MaxSend, float64(len(d.Stages))} {
			word(f)
		}
		for s := range d.Stages {
			waits := 0.0
			if d.Stages[s].Waits {
				waits = 1
			}
			word(waits)
			word(float64(d.Stages[s].Limit))
		}
	}
	return h.Sum64()
}
