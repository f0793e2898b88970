package share

import (
	"slices"
	"time"
)

// Dispatcher decides what to start next. It is told what began and ended; carrying it out is the caller's.
type Dispatcher struct {
	// Workers there are, and how many of them are taken.
	Workers, Busy int
	// Members are the pipelines that run.
	Members []*Member

	turns, sending Turns
}

// Member is a pipeline as the dispatcher sees it.
type Member struct {
	Grant  Grant
	Bucket *Bucket // nil for no ceiling
	Seats  []*Seat // the stages, from first to last

	turns, line   Turns // of its seats: at the workers, and at the line
	account, sent Account
}

// Seat is a stage as the dispatcher sees it.
type Seat struct {
	// Waits, as in Stage; Sends takes bandwidth and has to wait as well.
	Waits, Sends bool
	// Runnable reports whether a call could be made, leaving aside workers and bandwidth. With borrow it may take memory
	// beyond what its pipeline is granted.
	Runnable func(borrow bool) bool
	// Head is how much the next call would send.
	Head func() float64

	account Account
}

// Choice is what to start: the index of a member and of one of its seats.
type Choice struct{ Member, Seat int }

// Next returns what to start now, and charges the bandwidth for it. When there is nothing it says at what time to ask again
// even if nothing has changed by then; 0 for none.
//
// What needs no worker comes first, and within that what is furthest on, because it frees memory; those within their
// grants of memory come before those who borrow.
func (d *Dispatcher) Next(now time.Duration) (c Choice, again time.Duration, ok bool) {
	for _, borrow := range []bool{false, true} {
		if c, ok := d.waiting(borrow); ok {
			return c, 0, true
		}
		var at time.Duration
		if c, at, ok = d.send(now, borrow); ok {
			return c, 0, true
		}
		if again == 0 || at > 0 && at < again {
			again = at
		}
	}
	if d.Busy < d.Workers {
		for _, borrow := range []bool{false, true} {
			if c, ok := d.compute(borrow); ok {
				return c, 0, true
			}
		}
	}
	return Choice{}, again, false
}

func (d *Dispatcher) waiting(borrow bool) (Choice, bool) {
	for i, m := range d.Members {
		for k, s := range slices.Backward(m.Seats) {
			if s.Waits && !s.Sends && s.Runnable(borrow) {
				return Choice{i, k}, true
			}
		}
	}
	return Choice{}, false
}

func (d *Dispatcher) send(now time.Duration, borrow bool) (c Choice, again time.Duration, ok bool) {
	var best *Member
	for i, m := range d.Members {
		k := m.sends(borrow)
		if k < 0 {
			continue
		}
		if wait := m.Bucket.Wait(now); wait > 0 {
			if again == 0 || now+wait < again {
				again = now + wait
			}
			continue
		}
		if best == nil || d.sending.Virtual(&m.sent) < d.sending.Virtual(&best.sent) {
			best, c = m, Choice{i, k}
		}
	}
	if best == nil {
		return c, again, false
	}
	seat := best.Seats[c.Seat]
	n := seat.Head()
	best.Bucket.Take(now, n)
	d.sending.Serve(&best.sent)
	best.sent.Charge(n, best.Grant.Bandwidth)
	best.line.Serve(&seat.account)
	seat.account.Charge(n, 1) // among the seats of one member bytes count
	return c, 0, true
}

// sends finds the stage of a member that has sent least, the last of several.
func (m *Member) sends(borrow bool) int {
	best := -1
	for i, s := range slices.Backward(m.Seats) {
		if !s.Sends || !s.Runnable(borrow) {
			continue
		}
		if best < 0 || m.line.Virtual(&s.account) < m.line.Virtual(&m.Seats[best].account) {
			best = i
		}
	}
	return best
}

// compute finds the stage whose turn it is at the workers, by the turns of the pipelines and then of their stages.
func (d *Dispatcher) compute(borrow bool) (c Choice, ok bool) {
	var best *Member
	for i, m := range d.Members {
		if best != nil && d.turns.Virtual(&best.account) <= d.turns.Virtual(&m.account) {
			continue
		}
		if k := m.compute(borrow); k >= 0 {
			best, c = m, Choice{i, k}
		}
	}
	return c, best != nil
}

func (m *Member) compute(borrow bool) int {
	best := -1
	for i, s := range slices.Backward(m.Seats) {
		if s.Waits || !s.Runnable(borrow) {
			continue
		}
		if best < 0 || m.turns.Virtual(&s.account) < m.turns.Virtual(&m.Seats[best].account) {
			best = i
		}
	}
	return best
}

// Began tells that a call of a computing stage has begun, expected to take that many seconds. The worker is charged for
// them at once, or all free workers would go the same way.
func (d *Dispatcher) Began(m *Member, seat int, expected float64) {
	d.Busy++
	d.turns.Serve(&m.account)
	m.turns.Serve(&m.Seats[seat].account)
	m.charge(seat, expected)
}

// Ended tells that it has ended, and how much longer it took than expected. The member may have left meanwhile.
func (d *Dispatcher) Ended(m *Member, seat int, longer float64) {
	d.Busy--
	m.charge(seat, longer)
}

func (m *Member) charge(seat int, seconds float64) {
	m.account.Charge(seconds, sum(m.Grant.Workers))
	m.Seats[seat].account.Charge(seconds, m.Grant.Workers[seat])
}

// Regrant gives a member what a new plan grants it.
func (d *Dispatcher) Regrant(m *Member, g Grant) {
	if len(m.Grant.Workers) == len(g.Workers) { // not the first
		d.sending.regrant(&m.sent, m.Grant.Bandwidth, g.Bandwidth)
		d.turns.regrant(&m.account, sum(m.Grant.Workers), sum(g.Workers))
		for i, s := range m.Seats {
			if !s.Waits {
				m.turns.regrant(&s.account, m.Grant.Workers[i], g.Workers[i])
			}
		}
	}
	m.Grant = g
}
