package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// MaxJobs bounds what waits.
const MaxJobs = 1000

// Engine knows the jobs that wait and run, and plans them anew whenever it is asked. It does nothing by itself: the time and
// the lanes come with each call. It is not safe for concurrent use.
type Engine struct {
	openings []opening
	jobs     map[string]*Decision
}

// NewEngine returns one without jobs.
func NewEngine(windows []Window) (*Engine, error) {
	e := &Engine{jobs: make(map[string]*Decision)}
	for _, w := range windows {
		o, err := w.parse()
		if err != nil {
			return nil, fmt.Errorf("window %s: %w", w.Name, err)
		}
		e.openings = append(e.openings, o)
	}
	return e, nil
}

// Submit takes a job; it has no slot before the next Plan. One with the ID of a waiting job replaces it.
func (e *Engine) Submit(j Job, now time.Time) error {
	switch old := e.jobs[j.ID]; {
	case j.ID == "" || j.VM == "":
		return fmt.Errorf("submit a move: it needs an id and a VM")
	case old != nil && old.State == Running:
		return fmt.Errorf("submit move %s: it is under way: cancel it first", j.ID)
	case old == nil && len(e.jobs) >= MaxJobs:
		return fmt.Errorf("submit move %s: %d moves wait already: try again when some are done", j.ID, MaxJobs)
	}
	for _, name := range j.Windows {
		if !slices.ContainsFunc(e.openings, func(o opening) bool { return o.name == name }) {
			return fmt.Errorf("submit move %s: there is no window %q: add it to the configuration", j.ID, name)
		}
	}
	if j.Submitted.IsZero() {
		j.Submitted = now
	}
	e.jobs[j.ID] = &Decision{Job: j, State: Booked}
	return nil
}

// Remove forgets a job that was cancelled or has ended.
func (e *Engine) Remove(id string) { delete(e.jobs, id) }

// Begin notes that a job has started.
func (e *Engine) Begin(id string, now time.Time) {
	if d := e.jobs[id]; d != nil && d.State != Running {
		d.End = now.Add(d.Verdict.Total)
		d.State, d.Start = Running, now
	}
}

// Progress notes when a running job is expected to end: its slot is held that long.
func (e *Engine) Progress(id string, end time.Time) {
	if d := e.jobs[id]; d != nil && d.State == Running {
		d.End = end
	}
}

// Plan decides on all jobs that have not begun, by what is known now. Running ones keep what they have. A host without a room is taken
// to have enough memory.
func (e *Engine) Plan(now time.Time, lanes []Lane, rooms []Room) []Decision {
	p := &placer{calendar: newCalendar(lanes, rooms), openings: e.openings, now: now}
	var waiting []Job
	for _, d := range e.sorted() {
		if d.State != Running {
			waiting = append(waiting, d.Job)
			continue
		}
		if !d.End.After(now) { // late: it ends any moment, as far as is known
			d.End = now.Add(max(time.Second, now.Sub(d.Start)/20))
		}
		p.keep(*d)
		if i := p.roomOf(d.Job); i >= 0 {
			p.arrive(d.Job, now, d.Unseen(rooms[i].Looked))
		}
	}
	for _, d := range p.arrange(waiting) {
		*e.jobs[d.ID] = d
	}
	return e.Decisions()
}

// Due are the jobs whose slot has begun, those of high priority first.
func (e *Engine) Due(now time.Time) (list []Decision) {
	for _, d := range e.sorted() {
		if d.State == Booked && !d.Start.IsZero() && !d.Start.After(now) {
			list = append(list, *d)
		}
	}
	slices.SortStableFunc(list, func(a, b Decision) int { return -cmp.Compare(a.Priority, b.Priority) })
	return list
}

// Next is when Due will have something, the zero time if that is not known.
func (e *Engine) Next() (next time.Time) {
	for _, d := range e.jobs {
		if d.State == Booked && !d.Start.IsZero() && (next.IsZero() || d.Start.Before(next)) {
			next = d.Start
		}
	}
	return next
}

// Decisions on all jobs, in the order of their slots; denied ones last.
func (e *Engine) Decisions() (list []Decision) {
	for _, d := range e.sorted() {
		list = append(list, *d)
	}
	slices.SortStableFunc(list, func(a, b Decision) int {
		switch {
		case a.State == Denied && b.State != Denied:
			return 1
		case a.State != Denied && b.State == Denied:
			return -1
		}
		return a.Start.Compare(b.Start)
	})
	return list
}

// Decision on one job.
func (e *Engine) Decision(id string) (Decision, bool) {
	d, ok := e.jobs[id]
	if !ok {
		return Decision{}, false
	}
	return *d, true
}

// sorted is by ID: a plan depends on nothing but what it was given.
func (e *Engine) sorted() []*Decision {
	list := make([]*Decision, 0, len(e.jobs))
	for _, d := range e.jobs {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b *Decision) int { return cmp.Compare(a.ID, b.ID) })
	return list
}
