package schedule

import (
	"cmp"
	"slices"
	"time"
)

// maxTried bounds the starts that an order is searched with: about a second of the slowest box.
const maxTried = 20_000

// arrange places jobs one after another, each into what those before it have left. Those of a higher priority come first;
// among equals it begins with the longest, which is at most 4/3 of the best (Graham 1969), and then moves
// single jobs forward or back as long as all are done earlier for it.
func (p *placer) arrange(jobs []Job) []Decision {
	jobs = slices.Clone(jobs)
	long := make(map[string]time.Duration, len(jobs))
	for _, j := range jobs {
		long[j.ID] = p.alone(j)
	}
	slices.SortStableFunc(jobs, func(a, b Job) int {
		return cmp.Or(-cmp.Compare(a.Priority, b.Priority), -cmp.Compare(long[a.ID], long[b.ID]), a.Submitted.Compare(b.Submitted), cmp.Compare(a.ID, b.ID))
	})
	var all []Decision
	for len(jobs) > 0 {
		n := 1
		for n < len(jobs) && jobs[n].Priority == jobs[0].Priority {
			n++
		}
		all = append(all, p.search(jobs[:n])...)
		jobs = jobs[n:]
	}
	return all
}

// alone is how long a job takes if it has its links for itself.
func (p *placer) alone(j Job) time.Duration {
	routes, err := p.routes(j)
	if err != nil {
		return 0
	}
	empty := placer{calendar: newCalendar(p.lanes, nil), now: p.now}
	return empty.ask(j, routes[0], p.now).Total
}

// search finds an order for jobs of one priority, and books them in it.
func (p *placer) search(jobs []Job) []Decision {
	best, worth := p.try(jobs)
	for improved := true; improved && p.tried < maxTried; {
		improved = false
		for i := 0; i < len(jobs) && p.tried < maxTried; i++ {
			for k := 0; k < len(jobs) && p.tried < maxTried; k++ {
				if i == k {
					continue
				}
				moved := moveJob(jobs, i, k)
				if d, w := p.try(moved); w.better(worth) {
					jobs, best, worth, improved = moved, d, w, true
				}
			}
		}
	}
	for _, d := range best {
		p.keep(d)
		if d.State != Denied {
			p.arrive(d.Job, d.Start, float64(d.Memory))
		}
	}
	return best
}

// try places jobs in an order and takes their bookings back.
func (p *placer) try(jobs []Job) (list []Decision, w worth) {
	marks := make([]int, len(p.bookings))
	for i, b := range p.bookings {
		marks[i] = len(b)
	}
	arrived := len(p.arrivals)
	for _, j := range jobs {
		d := p.place(j)
		list = append(list, d)
		w.add(d, p.now)
	}
	for i, n := range marks {
		p.bookings[i] = p.bookings[i][:n]
	}
	p.arrivals = p.arrivals[:arrived]
	return list, w
}

// keep books what was decided.
func (p *placer) keep(d Decision) {
	if d.State == Denied {
		return
	}
	for i, l := range p.lanes {
		if slices.Contains(d.Links, l.Name) {
			p.book(i, Booking{Job: d.ID, Start: d.Start, End: d.End, Rate: d.Booked, Priority: d.Priority})
		}
	}
}

// worth of an order: first how many jobs it cannot place, then how long they all take (makespan), then the sum of their ends.
type worth struct {
	denied   int
	makespan time.Duration
	ends     time.Duration
}

func (w *worth) add(d Decision, now time.Time) {
	if d.State == Denied {
		w.denied++
		return
	}
	end := d.End.Sub(now)
	w.makespan = max(w.makespan, end)
	w.ends += end
}

func (w worth) better(than worth) bool {
	// A second is nothing between two plans; without this an order would change for rounding.
	const same = time.Second
	switch {
	case w.denied != than.denied:
		return w.denied < than.denied
	case w.makespan < than.makespan-same || w.makespan > than.makespan+same:
		return w.makespan < than.makespan
	}
	return w.ends < than.ends-same
}

func moveJob(jobs []Job, from, to int) []Job {
	moved := slices.Delete(slices.Clone(jobs), from, from+1)
	return slices.Insert(moved, to, jobs[from])
}
