package lab

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Runners collects what the QEMUs of one VM said of themselves and tells whether two of them ever ran at once. It takes
// QEMU's own times, which are of one clock: all hosts of a lab are on one machine.
type Runners struct {
	mu   sync.Mutex
	runs map[string][]run // by process
}

// run is a time in which a process ran its guest; an open end is zero.
type run struct{ from, to time.Time }

// Event takes a QMP event of a process. Others than those of the run state say nothing.
func (r *Runners) Event(process, name string, at time.Time) {
	switch name {
	case "RESUME":
		r.Started(process, at)
	case "STOP", "SHUTDOWN":
		r.Ended(process, at)
	}
}

// Started says that the process runs its guest from at on.
func (r *Runners) Started(process string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs == nil {
		r.runs = map[string][]run{}
	}
	list := r.runs[process]
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		return // it runs already
	}
	r.runs[process] = append(list, run{from: at})
}

// Ended says that the process does not run its guest from at on, or does not exist.
func (r *Runners) Ended(process string, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.runs[process]
	if n := len(list); n > 0 && list[n-1].to.IsZero() {
		list[n-1].to = at
	}
}

// Latest is when a process last began to run its guest.
func (r *Runners) Latest() (at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, list := range r.runs {
		for _, x := range list {
			if x.from.After(at) {
				at = x.from
			}
		}
	}
	return at
}

// Running are the processes that run now.
func (r *Runners) Running() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for p, list := range r.runs {
		if n := len(list); n > 0 && list[n-1].to.IsZero() {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// Err is the proof: nil if no two processes ever ran at the same time.
func (r *Runners) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.runs))
	for p := range r.runs {
		names = append(names, p)
	}
	slices.Sort(names)
	for i, p := range names {
		for _, q := range names[i+1:] {
			for _, a := range r.runs[p] {
				for _, b := range r.runs[q] {
					if before(a.from, b.to) && before(b.from, a.to) {
						return fmt.Errorf("two runners: %s from %s to %s and %s from %s to %s", p, clock(a.from), clock(a.to), q, clock(b.from), clock(b.to))
					}
				}
			}
		}
	}
	return nil
}

// before takes a zero end as never.
func before(from, to time.Time) bool { return to.IsZero() || from.Before(to) }

func clock(t time.Time) string {
	if t.IsZero() {
		return "now on"
	}
	return t.Format("15:04:05.000000")
}
