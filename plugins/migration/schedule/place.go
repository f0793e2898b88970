package schedule

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// placer finds slots for jobs in a calendar.
type placer struct {
	*calendar
	openings []opening
	now      time.Time
	tried    int // starts that were looked at: the measure of work
}

// offer is a start that is possible for a job.
type offer struct {
	way     int // which of the job's routes
	route   []int
	start   time.Time
	verdict Verdict
}

func (o offer) end() time.Time { return o.start.Add(o.verdict.Total) }

// withinReason is how much longer than the shortest a transfer may take to start earlier, where no forecast is followed. It is more
// than what a job of lower priority keeps of the link.
const withinReason = .12

// place finds a job's slot and books it. The first of these that there is: pre-copy, post-copy, throttling; and of those the earliest
// start whose transfer takes not much longer than the shortest, where the back-test says what is much.
func (p *placer) place(j Job) Decision {
	d := Decision{Job: j, State: Denied}
	routes, err := p.routes(j)
	if err != nil {
		d.Why = []string{err.Error()}
		return d
	}
	if !j.Before.IsZero() && !j.Before.After(j.Submitted) {
		return p.atOnceOn(d, routes[0])
	}
	from, to := p.bounds(j)
	spans := allowed(p.openings, j.Windows, from, to)
	if len(spans) == 0 {
		d.Why = []string{fmt.Sprintf("no window of %v opens between %s and %s: name another or allow a later start", j.Windows, at(from), at(to))}
		return d
	}
	b := p.bids(j, routes, spans)
	if len(b.offers) == 0 {
		return b.deny(d, to)
	}
	chosen, shortest := p.choose(b.offers)
	d = p.take(d, chosen)
	d.Why = p.explain(j, chosen, shortest, b.offers, spans)
	if b.crowded != "" && chosen.start.After(p.now) {
		d.Why = append(d.Why, b.crowded)
	}
	return d
}

// bids are the starts that are possible for a job, and what speaks against others.
type bids struct {
	offers  []offer
	refused *Verdict // the best that is not possible
	crowded string   // why the first one is not for which its destination has no room
}

// bids looks at every start at which something changes.
func (p *placer) bids(j Job, routes [][]int, spans []span) (b bids) {
	for way, route := range routes {
		for _, s := range spans {
			for _, start := range p.starts(route, j, s.from, s.to) {
				v := p.ask(j, route, start)
				late := start.Add(v.Latest)
				switch inTime := v.Admitted && p.inTime(j, s, late); {
				case inTime && p.fits(j, start, late):
					b.offers = append(b.offers, offer{way, route, start, v})
				case inTime:
					b.crowded = cmp.Or(b.crowded, p.crowded(j, start, late))
				case b.refused == nil || v.Admitted && !b.refused.Admitted || v.Admitted == b.refused.Admitted && v.Total < b.refused.Total:
					b.refused = &v
				}
			}
		}
	}
	return b
}

// deny says why a job has no slot until a time.
func (b bids) deny(d Decision, to time.Time) Decision {
	switch {
	case b.crowded != "":
		d.Why = []string{fmt.Sprintf("no slot until %s: %s: free memory there, or choose another host", at(to), b.crowded)}
	case b.refused.Admitted:
		d.Verdict = *b.refused
		d.Why = []string{fmt.Sprintf("it takes up to %s, and does not end in time from any start until %s: allow a later end, a longer window or more bandwidth", short(b.refused.Latest), at(to))}
	default:
		d.Verdict = *b.refused
		d.Why = append([]string{"no slot until " + at(to)}, b.refused.Why...)
	}
	return d
}

// atOnceOn gives a job the slot that begins now, whatever the links are doing: it was asked for. It has its part of their budgets.
func (p *placer) atOnceOn(d Decision, route []int) Decision {
	v := p.ask(d.Job, route, p.now)
	d.Why = append([]string{"starts at once, as asked"}, v.Why...)
	if text := p.crowded(d.Job, p.now, p.now); text != "" {
		d.Why = append(d.Why, text)
	}
	return p.take(d, offer{route: route, start: p.now, verdict: v})
}

// take books an offer for a job.
func (p *placer) take(d Decision, o offer) Decision {
	p.arrive(d.Job, o.start, float64(d.Memory))
	d.State, d.Start, d.End, d.Verdict = Booked, o.start, o.end(), o.verdict
	d.Booked = d.Rate
	for _, l := range o.route {
		d.Links = append(d.Links, p.lanes[l].Name)
		if d.Booked == 0 || p.lanes[l].Budget < d.Booked {
			d.Booked = p.lanes[l].Budget
		}
	}
	for _, l := range o.route {
		p.book(l, Booking{Job: d.ID, Start: d.Start, End: d.End, Rate: d.Booked, Priority: d.Priority})
	}
	return d
}

// ask is the verdict for a start.
func (p *placer) ask(j Job, route []int, start time.Time) Verdict {
	p.tried++
	return Admit(j.Load, p.rate(route, start, j, false), p.rate(route, start, j, true), j.Policy)
}

// bounds are the first and the last start that are looked at.
func (p *placer) bounds(j Job) (from, to time.Time) {
	from = p.now
	if j.Earliest.After(from) {
		from = j.Earliest
	}
	// A window may be far, and so may the end of the queue: only a better rate is not waited for longer.
	to = from.Add(MaxWait)
	for _, l := range p.bookings {
		for _, b := range l {
			if end := b.End.Add(time.Second); end.After(to) {
				to = end
			}
		}
	}
	if len(j.Windows) > 0 {
		to = from.Add(8 * 24 * time.Hour)
	}
	if !j.Before.IsZero() && j.Before.Before(to) {
		to = j.Before
	}
	if !to.After(from) {
		to = from.Add(1)
	}
	return from, to
}

// inTime says whether a slot ends where it has to.
func (p *placer) inTime(j Job, s span, end time.Time) bool {
	return (len(j.Windows) == 0 || !end.After(s.to)) && (j.Before.IsZero() || !end.After(j.Before))
}

// routes are the ways that a job may go, as indices of lanes.
func (p *placer) routes(j Job) (list [][]int, err error) {
	if len(j.Via) == 0 {
		var route []int
		for i, l := range p.lanes {
			if len(l.Hosts) == 0 || slices.Contains(l.Hosts, j.From) || slices.Contains(l.Hosts, j.To) {
				route = append(route, i)
			}
		}
		return [][]int{route}, nil
	}
	for _, names := range j.Via {
		var route []int
		for _, name := range names {
			i := slices.IndexFunc(p.lanes, func(l Lane) bool { return l.Name == name })
			if i < 0 {
				return nil, fmt.Errorf("there is no link %q: choose one of the configured", name)
			}
			route = append(route, i)
		}
		list = append(list, route)
	}
	return list, nil
}

// modeRank is the order in which modes are preferred.
var modeRank = map[Mode]int{ModePreCopy: 0, ModePostCopy: 1, ModeThrottle: 2}

// choose returns the best offer, and the one with the shortest transfer on its route: of each route the earliest start that is
// short enough there, and of the routes the one on which it ends first.
func (p *placer) choose(offers []offer) (chosen, shortest offer) {
	rank := modeRank[offers[0].verdict.Mode]
	for _, o := range offers {
		rank = min(rank, modeRank[o.verdict.Mode])
	}
	best := make(map[int]offer)
	for _, o := range offers {
		if b, ok := best[o.way]; modeRank[o.verdict.Mode] == rank && (!ok || o.verdict.Total < b.verdict.Total) {
			best[o.way] = o
		}
	}
	found := false
	for _, o := range offers {
		b, ok := best[o.way]
		if !ok || modeRank[o.verdict.Mode] != rank || float64(o.verdict.Total) > float64(b.verdict.Total)*(1+p.patience(o.route)) {
			continue
		}
		if !found || o.end().Before(chosen.end()) {
			chosen, shortest, found = o, b, true
		}
	}
	return chosen, shortest
}

// patience of a route is that of its lane which asks for most; withinReason if there is no forecast to follow.
func (p *placer) patience(route []int) float64 {
	most := -1.0
	for _, i := range route {
		if l := p.lanes[i]; l.Skilled {
			most = max(most, l.Patience)
		}
	}
	if most < 0 {
		return withinReason
	}
	return most
}
