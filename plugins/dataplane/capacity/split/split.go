package split

import (
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
)

// Options of a Splitter; zero values mean the defaults stated.
type Options struct {
	// Balancers is how many there are; at least 1.
	Balancers int
	// Settle is how old a balancer's count must be to be in a measurement that is not counted: 200 ms.
	Settle time.Duration
	// LostAfter is when a connection that was dispatched and never accepted is given up: 60 s.
	LostAfter time.Duration
}

// maxPending bounds the grants of one balancer that wait for their reply.
const maxPending = 32

// Measurement is what a host knows of one component at one moment.
type Measurement struct {
	// Limit is how many more connections the component takes.
	Limit uint32
	// Accepted is the total it has accepted so far. Counted says that it is known.
	Accepted uint64
	Counted  bool
}

// Splitter holds the grants of one component.
type Splitter struct {
	o         Options
	balancers []balancer

	measured   bool
	last       Measurement
	generation uint64 // of measurements

	// account is what has to be added to last.Accepted to have it in the balancers' counts; see accounted.
	account  int64
	anchored bool
	// strays looks for connections that came past the balancers, lost for those that never arrived.
	strays struct {
		generation uint64
		accepted   uint64
	}
	lost struct {
		since      time.Duration
		dispatched int64
		running    bool
	}
}

// balancer is what is known of one of them.
type balancer struct {
	known       bool
	hello       uint64 // sequence of the first report that claimed nothing
	incarnation uint64
	dispatched  uint64
	heard       time.Duration // last reply
	ttl         time.Duration
	generation  uint64 // the measurement that its last confirmed report was made of
	// pending holds the grant in force and those sent after it.
	pending []grant
	// raised is when it was last granted more than it had used.
	raised time.Duration
	joined time.Duration
	// trail is for measurements that are not counted.
	trail trail
	// rate is how much it dispatches, decaying.
	rate float64
}

type grant struct {
	sequence, upTo, generation uint64
}

// New makes a splitter that grants nothing until it has a measurement and a balancer's reply.
func New(o Options) *Splitter {
	o.Balancers = max(o.Balancers, 1)
	if o.Settle <= 0 {
		o.Settle = 200 * time.Millisecond
	}
	if o.LostAfter <= 0 {
		o.LostAfter = time.Minute
	}
	return &Splitter{o: o, balancers: make([]balancer, o.Balancers)}
}

// Measure takes what the host measured now.
func (s *Splitter) Measure(now time.Duration, m Measurement) {
	if m.Counted && (!s.anchored || !s.last.Counted || m.Accepted < s.last.Accepted) {
		// The application began anew, or counts for the first time: what is known to be dispatched is in.
		s.account = s.dispatched() - int64(m.Accepted)
		s.anchored, s.lost.running = true, false
		s.strays.generation, s.strays.accepted = s.generation+1, m.Accepted
	}
	s.last, s.measured = m, true
	s.generation++
	if m.Counted {
		s.findLost(now)
	}
}

// dispatched is the sum of all balancers' counts.
func (s *Splitter) dispatched() int64 {
	var sum int64
	for i := range s.balancers {
		if s.balancers[i].known {
			sum += int64(s.balancers[i].dispatched)
		}
	}
	return sum
}

// accounted is how many of the dispatched connections the last measurement contains, never more than are known. What a balancer
// dispatched that is not heard any more was accepted, too, and cannot be told from what another one has on its way: as long as
// there may be such, only what was dispatched long enough ago counts.
func (s *Splitter) accounted(now time.Duration) int64 {
	settled, unsure := int64(0), !s.last.Counted
	for i := range s.balancers {
		if b := &s.balancers[i]; b.known {
			settled += int64(min(b.dispatched, b.trail.before(now-s.o.Settle)))
			unsure = unsure || b.unsure(now)
		}
	}
	if !s.last.Counted {
		return settled
	}
	counted := min(s.dispatched(), int64(s.last.Accepted)+s.account)
	if unsure {
		return min(counted, settled)
	}
	return counted
}

// Report makes the entry for one balancer and remembers what it grants. The name is the caller's.
func (s *Splitter) Report(now time.Duration, which int, sequence uint64) report.Component {
	b := &s.balancers[which]
	if !b.known && b.hello == 0 {
		b.hello = sequence
	}
	if !b.known || !s.measured {
		return report.Component{}
	}
	upTo := int64(b.dispatched)
	// What was on its way when a balancer joined is let arrive first.
	if !b.silent(now) && now-b.joined >= s.o.Settle {
		budget := s.accounted(now) + int64(s.last.Limit)
		others := int64(0)
		for i := range s.balancers {
			if i != which {
				others += s.balancers[i].ceiling(now)
			}
		}
		upTo = max(upTo, min(upTo+s.share(now, which, budget-s.dispatched()), budget-others))
	}
	if upTo > int64(b.dispatched) {
		b.raised = now
	}
	b.promise(grant{sequence, uint64(upTo), s.generation})
	return report.Component{Known: true, Limit: uint32(min(upTo-int64(b.dispatched), 1<<32-1)), Accepted: b.dispatched}
}

// share divides what is free. Everyone who listens gets one while there is enough, the rest goes by rate.
func (s *Splitter) share(now time.Duration, which int, free int64) int64 {
	if free <= 0 {
		return 0
	}
	var listening, before int64
	var rates, upToMe float64
	for i := range s.balancers {
		b := &s.balancers[i]
		if !b.known || b.silent(now) {
			continue
		}
		listening++
		// A little for those that are quiet: an eighth of an even share of the whole.
		rates += b.rate
		if i < which {
			before++
			upToMe += b.rate
		}
	}
	if free <= listening {
		if before < free {
			return 1
		}
		return 0
	}
	rest := free - listening
	floor := (rates + 1) / float64(8*listening)
	total := rates + floor*float64(listening)
	low := (upToMe + floor*float64(before)) / total
	high := (upToMe + s.balancers[which].rate + floor*float64(before+1)) / total
	// Cumulative rounding: the shares of all add up to rest.
	return 1 + int64(high*float64(rest)+0.5) - int64(low*float64(rest)+0.5)
}

// Reply takes a balancer's answer and says whether it told something new. Answers may be lost, late, doubled or out of
// order.
func (s *Splitter) Reply(now time.Duration, which int, r report.Reply, d report.Dispatched) (news bool) {
	b := &s.balancers[which]
	if d.Status != report.Applied || b.known && b.incarnation != r.Incarnation {
		news = b.known
		s.forget(b)
		return news
	}
	if !b.known {
		// Only an answer to a report that claimed nothing tells where the count begins: an older one may be of
		// a life that is over.
		if b.hello == 0 || r.Sequence < b.hello {
			return false
		}
		*b = balancer{known: true, incarnation: r.Incarnation, dispatched: d.Dispatched, heard: now, joined: now, ttl: r.TTL, generation: s.generation}
		b.trail.note(now, 0, d.Dispatched)
		s.account += int64(d.Dispatched)
		s.lost.running = false
		return true
	}
	if !b.confirm(r.Sequence) {
		return false
	}
	news = d.Dispatched != b.dispatched
	if d.Dispatched > b.dispatched {
		b.rate += float64(d.Dispatched - b.dispatched)
	}
	b.rate *= 0.9
	b.dispatched, b.heard, b.ttl = d.Dispatched, now, r.TTL
	b.trail.note(now, s.o.Settle/4, d.Dispatched)
	if s.last.Counted {
		s.findStrays()
	}
	return news
}

// Forget makes a balancer unknown: its counts began anew.
func (s *Splitter) Forget(which int) { s.forget(&s.balancers[which]) }

func (s *Splitter) forget(b *balancer) {
	if b.known {
		s.account -= int64(b.dispatched)
		s.lost.running = false
	}
	*b = balancer{}
}

// findStrays takes connections out of the account that no balancer has sent: every balancer has told its count since
// the measurement was made, and they add up to less than was accepted.
func (s *Splitter) findStrays() {
	for i := range s.balancers {
		if b := &s.balancers[i]; b.known && b.generation < s.strays.generation {
			return
		}
	}
	if excess := int64(s.strays.accepted) + s.account - s.dispatched(); excess > 0 {
		s.account -= excess
	}
	s.strays.generation, s.strays.accepted = s.generation, s.last.Accepted
}

// findLost gives connections up that were dispatched LostAfter ago and still are not accepted. While many are
// accepted, later ones hide the loss; it is found when traffic is low, which errs to the safe side.
func (s *Splitter) findLost(now time.Duration) {
	if s.lost.running && now-s.lost.since < s.o.LostAfter {
		return
	}
	if missing := s.lost.dispatched - int64(s.last.Accepted) - s.account; s.lost.running && missing > 0 {
		s.account += min(missing, max(0, s.dispatched()-int64(s.last.Accepted)-s.account))
	}
	s.lost.since, s.lost.dispatched, s.lost.running = now, s.dispatched(), true
}

// Known says whether a balancer has told its count.
func (s *Splitter) Known(which int) bool { return s.balancers[which].known }
