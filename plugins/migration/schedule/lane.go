package schedule

import (
	"slices"
	"time"
)

// Lane is a link as the scheduler sees it: what moves may send over it in the next hours.
type Lane struct {
	Name string
	// Hosts whose moves go over it; none means all.
	Hosts []string
	// Budget is what moves may use together, in bytes a second.
	Budget float64
	// From is when the first slot of Expected and Sure begins, Step how long each is. After the last one, it goes on.
	From time.Time
	Step time.Duration
	// Expected is what is free for moves in each slot by the median forecast, Sure by the one that is exceeded one time in
	// ten. Empty is the whole budget, always.
	Expected, Sure []float64
	// Skilled means that waiting by the forecast has paid; without it Expected is level and there is nothing to wait for.
	// Patience is how much longer than the shortest a transfer may take in order to start earlier: .1 is a tenth.
	Patience float64
	Skilled  bool
}

// free is what is left in a slot by one of the two forecasts.
func (l *Lane) free(slots []float64, at time.Time) float64 {
	if len(slots) == 0 {
		return l.Budget
	}
	i := int(max(0, at.Sub(l.From)) / l.Step)
	return min(l.Budget, slots[min(i, len(slots)-1)])
}

// Booking is a part of a lane that is promised to a job.
type Booking struct {
	Job        string
	Start, End time.Time
	Rate       float64
	Priority   int
}

// unknown is the rate that is counted on where no link is known: that of 1 Gbit/s.
const unknown = 117e6

// yields is the part of its booking that a job keeps when one of a higher priority comes: see package budget.
const yields = .05

// calendar is the lanes and the rooms with what is booked on them.
type calendar struct {
	lanes    []Lane
	bookings [][]Booking // by lane
	rooms    []Room
	arrivals []arrival
}

func newCalendar(lanes []Lane, rooms []Room) *calendar {
	return &calendar{lanes: lanes, bookings: make([][]Booking, len(lanes)), rooms: rooms}
}

func (c *calendar) book(lane int, b Booking) { c.bookings[lane] = append(c.bookings[lane], b) }

// left is what is neither used by others nor booked on any lane of a route, for a job of some priority.
func (c *calendar) left(route []int, at time.Time, priority int, sure bool) float64 {
	least := -1.0
	for _, i := range route {
		l := &c.lanes[i]
		slots := l.Expected
		if sure {
			slots = l.Sure
		}
		v := l.free(slots, at)
		for _, b := range c.bookings[i] {
			if !at.Before(b.Start) && at.Before(b.End) {
				if b.Priority < priority {
					v -= yields * b.Rate
				} else {
					v -= b.Rate
				}
			}
		}
		if least < 0 || v < least {
			least = v
		}
	}
	return max(0, least)
}

// rate is how fast a job that starts at start can send over a route.
func (c *calendar) rate(route []int, start time.Time, j Job, sure bool) Rate {
	if len(route) == 0 {
		if j.Rate > 0 {
			return Constant(j.Rate)
		}
		return Constant(unknown)
	}
	return func(after time.Duration) float64 {
		v := c.left(route, start.Add(after), j.Priority, sure)
		if j.Rate > 0 {
			v = min(v, j.Rate)
		}
		return v
	}
}

// starts are the times between from and to at which something changes on a route, or a destination begins to have room: there is no
// reason to begin at others.
func (p *placer) starts(route []int, j Job, from, to time.Time) []time.Time {
	list := append([]time.Time{from}, p.roomy(j, from, to)...)
	add := func(t time.Time) {
		if t.After(from) && t.Before(to) {
			list = append(list, t)
		}
	}
	for _, i := range route {
		l := &p.lanes[i]
		for k := 1; k < len(l.Expected); k++ {
			if l.Expected[k] != l.Expected[k-1] {
				add(l.From.Add(time.Duration(k) * l.Step))
			}
		}
		for _, b := range p.bookings[i] {
			add(b.End)
		}
	}
	slices.SortFunc(list, time.Time.Compare)
	return slices.CompactFunc(list, time.Time.Equal)
}
