package share

import "math"

// Capacity is what there is to share.
type Capacity struct {
	Workers   float64 // stage functions that compute at once
	Memory    float64 // bytes in flight; 0 is without limit
	Bandwidth float64 // bytes a second; 0 is without limit
}

// Demand is what a pipeline needs, in terms of the items that its sources put in. The zero value of a limit is none.
type Demand struct {
	Weight    float64 // relative to the others; 0 means 1
	Rate      float64 // items a second that come in; 0 when there is always another one waiting
	Bytes     float64 // memory an item holds until it is through
	Send      float64 // bytes of bandwidth an item takes
	MaxMemory float64 // bytes
	MaxSend   float64 // bytes a second
	Stages    []Stage
}

// Stage is one of a pipeline's.
type Stage struct {
	// Seconds of the stage's function for one item of the pipeline; 0 when nothing is known yet.
	Seconds float64
	// Waits marks a stage that mostly waits: it takes no worker.
	Waits bool
	// Limit is how many calls may run at once; 0 for no limit, or maxCalls of a stage that waits.
	Limit int
	// In and Out tell how full the queues before and after the stage are, 0 to 1. A source has 1 before it
	// when it is behind, a last stage 0 after it.
	In, Out float64
}

// unknown is what a stage is taken to cost before it has been seen at work.
const unknown = 1e-3

// maxCalls bounds the calls at once of a waiting stage without a limit: nothing else would.
const maxCalls = 64

func (s *Stage) limit() float64 {
	switch {
	case s.Limit > 0:
		return float64(s.Limit)
	case s.Waits:
		return maxCalls
	}
	return math.Inf(1)
}

func (d *Demand) weight() float64 {
	if d.Weight > 0 {
		return d.Weight
	}
	return 1
}

func (s *Stage) seconds() float64 {
	if s.Seconds > 0 {
		return s.Seconds
	}
	return unknown
}

// resources of the model; the order is that of a need.
const (
	workers = iota
	memory
	bandwidth
	resources
)

// need is what one item a second takes of each resource, as parts of its capacity.
type need [resources]float64

// residence: the memory that a steady flow needs is its rate × its bytes × the time an item is worked on. Twice that
// leaves as much for queues.
const residence = 2

func (d *Demand) need(c [resources]float64) (n need) {
	var busy, compute float64
	for i := range d.Stages {
		s := &d.Stages[i]
		busy += s.seconds()
		if !s.Waits {
			compute += s.seconds()
		}
	}
	for r, amount := range (need{compute, d.Bytes * busy * residence, d.Send}) {
		if c[r] > 0 {
			n[r] = amount / c[r]
		}
	}
	return n
}

// dominant is the part of the resource that is needed most.
func (n need) dominant() float64 { return max(n[workers], n[memory], n[bandwidth]) }

// most is the rate beyond which the pipeline cannot make use of anything.
func (d *Demand) most() float64 {
	most := math.Inf(1)
	if d.Rate > 0 {
		most = d.Rate
	}
	for i := range d.Stages {
		most = min(most, d.Stages[i].limit()/d.Stages[i].seconds())
	}
	if d.MaxSend > 0 && d.Send > 0 {
		most = min(most, d.MaxSend/d.Send)
	}
	if d.MaxMemory > 0 && d.Bytes > 0 {
		var busy float64
		for i := range d.Stages {
			busy += d.Stages[i].seconds()
		}
		most = min(most, d.MaxMemory/(d.Bytes*busy*residence))
	}
	return most
}
