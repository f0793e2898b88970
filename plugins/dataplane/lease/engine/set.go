package engine

import (
	"net/netip"
	"slices"
	"time"
)

// SetOptions describe one service at one consumer.
type SetOptions struct {
	Run     uint64 // random, of this process
	Host    string // the name under which this host is enrolled
	Service string
	Leases  int // wanted, at most MaxLeases
	Agents  int // they are numbered from 0
	// Jitter returns 0 to 1; it spreads renewals over time.
	Jitter func() float64
}

// Set keeps the leases of one service.
type Set struct {
	o         SetOptions
	phase     float64 // this consumer's place in the time between two renewals, 0 to 1
	seq       uint64
	agents    []supplier
	leases    []Using
	addresses []netip.Addr
	failed    map[string]time.Duration // producers reported as not answering, and until when to repeat it
	mutant    mutant
}

// Using is a lease in use. It must not be used at or after Expires, on the clock given to Step.
type Using struct {
	Lease
	Agent   int
	Expires time.Duration
}

// supplier is what is known of one agent.
type supplier struct {
	first   time.Duration // when the first Want was sent
	asked   time.Duration // when the latest Want was sent, which is where what it grants counts from
	seq     uint64        // of that Want
	waiting bool          // for the answer to it
	heard   time.Duration // when the last answer came
	known   bool          // one has come
	status  Status
	ttl     time.Duration
	wanted  int  // in the latest Want
	short   bool // the last answer held fewer than were wanted
	next    time.Duration
	delay   time.Duration // of the next retry
	nudged  bool          // since the latest Want was sent
	due     time.Duration // when to ask for that reason, whatever is answered until then
}

// Request is a Want to be sent to an agent.
type Request struct {
	Agent int
	Want  Want
}

// patience is how long an agent that has never answered is left its part of the leases.
const patience = 500 * time.Millisecond

// NewSet makes a set without leases; nothing is asked before the first Step.
func NewSet(o SetOptions) *Set {
	o.Leases = max(1, min(o.Leases, MaxLeases))
	return &Set{o: o, phase: o.Jitter(), agents: make([]supplier, o.Agents), failed: map[string]time.Duration{}}
}

// Restore gives the set the leases that an earlier process used and still may use, which the first Wants will show, and
// the service's addresses as it knew them.
func (s *Set) Restore(left []Using, addresses []netip.Addr) {
	s.leases = slices.Clone(left[:min(len(left), MaxLeases)])
	s.addresses = slices.Clone(addresses)
}

// Leases lists what is in use. Entries whose time is over stay until the next Step.
func (s *Set) Leases() []Using { return s.leases }

// Addresses are the service's, as the agents named them last.
func (s *Set) Addresses() []netip.Addr { return s.addresses }

// TTL is the longest that an agent has named; 0 before any has.
func (s *Set) TTL() (ttl time.Duration) {
	for i := range s.agents {
		ttl = max(ttl, s.agents[i].ttl)
	}
	return ttl
}

// Answered says how many agents have answered within the TTL.
func (s *Set) Answered(now time.Duration) (n int) {
	for i := range s.agents {
		if a := &s.agents[i]; a.known && now < a.heard+a.ttl {
			n++
		}
	}
	return n
}

// Nudge makes the next Step ask an agent, within a moment that differs from consumer to consumer.
func (s *Set) Nudge(now time.Duration, agent int) {
	a := &s.agents[agent]
	if !a.nudged {
		a.nudged, a.due = true, now+s.jitter(firstRetry)
	}
	a.next = min(a.next, a.due)
}

// Failed reports a producer that does not answer: its lease ends here, and the agents are told.
func (s *Set) Failed(now time.Duration, producer string) {
	if len(s.failed) < MaxLeases {
		s.failed[producer] = now + max(s.TTL()/2, time.Second)
	}
	s.Release(now, producer)
}

// Step drops what has run out and returns the requests to be sent now, each of which counts from now, and when to
// step again at the latest.
func (s *Set) Step(now time.Duration) (requests []Request, next time.Duration) {
	s.drop(now, func(u Using) bool { return u.Expires <= now })
	for p, until := range s.failed {
		if until <= now {
			delete(s.failed, p)
		}
	}
	wants := s.spread(now)
	next = now + lastRetry
	for i := range s.agents {
		a := &s.agents[i]
		// To want more than was asked for is a reason to ask again now, unless the answer is still to come.
		if wants[i] > a.wanted && a.known && !a.waiting && a.status == OK {
			a.next = now
		}
		if a.next <= now {
			requests = append(requests, Request{Agent: i, Want: s.request(now, i, wants[i])})
		}
		next = min(next, a.next)
	}
	for _, u := range s.leases {
		next = min(next, u.Expires)
	}
	return requests, next
}

// request makes the Want. It is the whole truth of what this consumer uses from here on: surplus is dropped before it
// is written.
func (s *Set) request(now time.Duration, agent, want int) Want {
	for n := s.of(agent); n > want; n-- {
		last := -1
		for i, u := range s.leases {
			if u.Agent == agent && !u.Draining {
				last = i
			}
		}
		s.leases = slices.Delete(s.leases, last, last+1)
	}
	s.seq++
	a := &s.agents[agent]
	if a.seq == 0 {
		a.first = now
	}
	a.asked, a.seq, a.waiting, a.wanted, a.nudged = now, s.seq, true, want, false
	// The retry is late enough not to pile up on an agent that is only slow, and early enough for several of them.
	a.delay = min(max(2*a.delay, firstRetry, a.ttl/32), max(a.ttl/6, lastRetry/4))
	a.next = now + a.delay + s.jitter(a.delay/2)
	w := Want{Run: s.o.Run, Seq: s.seq, Service: s.o.Service, Leases: uint8(want)}
	for _, u := range s.leases {
		w.Held = append(w.Held, Held{Producer: u.Producer, Token: u.Token})
	}
	for p := range s.failed {
		w.Failed = append(w.Failed, p)
	}
	slices.Sort(w.Failed)
	return w
}

// renewal is when to renew what was asked for at a moment: at most a third of the TTL later, so that two renewals may be
// lost. Within each third every consumer has a moment of its own, or those that asked together once, after an outage,
// would do so for ever.
func (s *Set) renewal(asked, third time.Duration) time.Duration {
	if third <= 0 {
		return asked + firstRetry
	}
	late := (asked + third - time.Duration(s.phase*float64(third))) % third
	return asked + third - late
}

func (s *Set) jitter(most time.Duration) time.Duration {
	return time.Duration(s.o.Jitter() * float64(most))
}

// Granted takes an agent's answer. Only the one to the latest Want counts: a lease in an earlier answer was not in
// the later Want, so the agent has given it away.
func (s *Set) Granted(now time.Duration, agent int, g Grant) {
	a := &s.agents[agent]
	if !a.waiting || g.Seq != a.seq && s.mutant != mutantAnyReply {
		return
	}
	a.waiting, a.heard, a.known, a.status = false, now, true, g.Status
	given := 0
	for _, l := range g.Leases {
		if !l.Draining {
			given++
		}
	}
	a.short = given < a.wanted
	from := a.asked
	if s.mutant == mutantReceipt {
		from = now
	}
	switch g.Status {
	case OK:
		a.ttl, a.delay, s.addresses = g.TTL, 0, g.Addresses
		a.next = s.renewal(a.asked, g.TTL/3)
	case Wait:
		// The retry that request planned is right, and backs off: many wait for the same thing.
		if g.TTL > 0 {
			a.ttl, s.addresses = g.TTL, g.Addresses
		}
	default:
		a.next = now + lastRetry + s.jitter(lastRetry)
	}
	if a.nudged {
		a.next = min(a.next, a.due) // the answer may be older than what the nudge was about
	}
	if g.Status == Wait && len(g.Leases) == 0 && g.TTL == 0 {
		return // it promises nothing and takes nothing away
	}
	s.replace(now, agent, from, g.Leases)
}

// replace makes the leases of an agent those it granted, each at its old place if it has one.
func (s *Set) replace(now time.Duration, agent int, from time.Duration, granted []Lease) {
	had := len(s.leases)
	s.leases = slices.DeleteFunc(s.leases, func(u Using) bool {
		return u.Agent == agent && !slices.ContainsFunc(granted, func(l Lease) bool { return l.Producer == u.Producer })
	})
	if len(s.leases) < had {
		// Its agent waits to be shown that it is not used any more, and the others may have another one.
		for i := range s.agents {
			s.Nudge(now, i)
		}
	}
	for _, l := range granted {
		u := Using{Lease: l, Agent: agent, Expires: from + l.TTL}
		at := slices.IndexFunc(s.leases, func(have Using) bool { return have.Producer == l.Producer })
		switch {
		case at < 0 && l.TTL > 0 && u.Expires > now && s.failed[l.Producer] <= now:
			s.makeRoom(agent)
			if len(s.leases) < MaxLeases {
				s.leases = append(s.leases, u)
			}
		case at < 0:
		case s.leases[at].Agent == agent && l.TTL == 0: // as before
		case s.leases[at].Agent == agent, l.Epoch > s.leases[at].Epoch:
			// Two agents may both have granted this producer: the one that knows the later epoch is right, and
			// one lease of it is enough.
			s.leases[at] = u
		default:
			s.Nudge(now, agent) // it is asked for another
		}
	}
}

// makeRoom drops, of a full set, what is draining, or else another agent's youngest: the surplus that stood in for this
// one's while it was silent.
func (s *Set) makeRoom(agent int) {
	if len(s.leases) < MaxLeases {
		return
	}
	at := slices.IndexFunc(s.leases, func(u Using) bool { return u.Draining })
	for i := len(s.leases) - 1; at < 0 && i >= 0; i-- {
		if s.leases[i].Agent != agent {
			at = i
		}
	}
	if at >= 0 {
		s.leases = slices.Delete(s.leases, at, at+1)
	}
}

// Release gives a lease back: a draining one without flows.
func (s *Set) Release(now time.Duration, producer string) {
	for _, u := range s.leases {
		if u.Producer == producer {
			// An answer that is on its way would bring it back: it is asked for anew, without this lease.
			a := &s.agents[u.Agent]
			a.waiting, a.next = false, now
		}
	}
	s.drop(now, func(u Using) bool { return u.Producer == producer })
}

func (s *Set) drop(now time.Duration, over func(Using) bool) {
	s.leases = slices.DeleteFunc(s.leases, func(u Using) bool {
		if !over(u) {
			return false
		}
		// Whoever granted it is asked at once for another.
		if a := &s.agents[u.Agent]; !a.waiting {
			a.next = min(a.next, now)
		}
		return true
	})
}
