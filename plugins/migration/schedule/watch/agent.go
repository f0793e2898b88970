package watch

import (
	"context"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// Agent reads a load of a host from the agent on it. It is used by one goroutine.
type Agent struct {
	Host string
	Load func(ctx context.Context, host string) (load.Host, error)
	What func(l load.Host) (Reading, error)
	rate Rate
	back Rate
}

// Reading is a load as an agent tells it.
type Reading struct {
	// Value is what is used now, or if Counter what was until now.
	Value   float64
	Counter bool
	// Back is a second counter, of the other direction: the larger rate counts.
	Back float64
	// Whole is how much there is, 0 if the agent does not know.
	Whole float64
}

// Processors is a [Agent.What]: how many are busy.
func Processors(l load.Host) (Reading, error) {
	if l.CPUs <= 0 {
		return Reading{}, fmt.Errorf("the hypervisor does not tell how busy its host is: give a page of metrics")
	}
	return Reading{Value: l.Busy.Seconds(), Counter: true, Whole: float64(l.CPUs)}, nil
}

// Memory is a [Agent.What]: bytes that are not available.
func Memory(l load.Host) (Reading, error) {
	if l.Memory == 0 {
		return Reading{}, fmt.Errorf("the hypervisor does not tell what memory its host has left: give a page of metrics")
	}
	return Reading{Value: float64(l.Memory - min(l.Memory, l.Available)), Whole: float64(l.Memory)}, nil
}

// NIC is a [Agent.What]: bytes a second of a card, in the direction that carries more.
func NIC(name string) func(l load.Host) (Reading, error) {
	return func(l load.Host) (Reading, error) {
		n, ok := l.NICs[name]
		if !ok {
			return Reading{}, fmt.Errorf("the host has no NIC %q, or its hypervisor does not count: give a page of metrics", name)
		}
		return Reading{Value: float64(n.Sent), Back: float64(n.Received), Counter: true}, nil
	}
}

// Look asks the agent. ok is false when it answered but that says nothing yet: a counter needs two looks. whole is how much there is, 0 if
// the agent does not know.
func (a *Agent) Look(ctx context.Context, now func() time.Time) (s Sample, whole float64, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	l, err := a.Load(ctx, a.Host)
	if err != nil {
		return s, 0, false, fmt.Errorf("load of host %s: %w", a.Host, err)
	}
	r, err := a.What(l)
	if err != nil {
		return s, 0, false, fmt.Errorf("load of host %s: %w", a.Host, err)
	}
	s = Sample{now(), r.Value}
	if !r.Counter {
		return s, r.Whole, true, nil
	}
	there, ok := a.rate.Next(s.At, r.Value)
	back, _ := a.back.Next(s.At, r.Back)
	s.Value = max(there, back)
	return s, r.Whole, ok, nil
}
