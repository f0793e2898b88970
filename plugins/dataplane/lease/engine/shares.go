package engine

import (
	"math"
	"time"
)

// SharesOptions describe one producer on its host.
type SharesOptions struct {
	Run      uint64 // random, of this process
	Host     string // the name under which this host is enrolled
	Service  string
	Producer string
	Quota    uint32
	Target   Target
	Agents   int // they are numbered from 0
}

// Phase is how far a producer is.
type Phase uint8

// The phases of a producer.
const (
	Asking  Phase = iota // for the highest epoch
	Holding              // agents hold shares of its quota
	Lost                 // another host took the producer over: nothing is offered, nothing may be served
)

func (p Phase) String() string { return name(p, "asking", "holding", "taken over") }

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = time.Second
	// askFor is how long agents that do not answer are waited for before the others' epoch is taken for the highest.
	askFor = 2 * time.Second
	// askEvery is the pace before an agent has named a TTL.
	askEvery = time.Second
)

// Shares splits one producer's quota into disjoint shares, one for each agent. What agents may have granted, by the
// latest that is known of each, never exceeds the quota in sum.
type Shares struct {
	o       SharesOptions
	phase   Phase
	epoch   uint64
	state   State
	absent  bool
	rival   string // who has it in phase Lost
	seq     uint64
	started bool
	asked   time.Duration // when asking began
	// unsettled: after a restart agents may have granted more than is known, or than their shares are now.
	unsettled bool
	agents    []agentShare
	mutant    mutant
}

// agentShare is what is known of one agent.
type agentShare struct {
	ack    Ack           // the latest
	heard  time.Duration // when it came
	known  bool          // an ack has come
	share  uint32        // as offered
	since  uint64        // seq of the first Hold that offers it
	bound  uint32        // the agent has not granted more than that
	lapses time.Duration // then all that it was given has run out, unless given again
	next   time.Duration // when to send
	delay  time.Duration // of the next retry
}

// Offer is a Hold to be sent to an agent.
type Offer struct {
	Agent int
	Hold  Hold
}

// NewShares makes the producer's side; nothing is offered before the first Step.
func NewShares(o SharesOptions) *Shares {
	return &Shares{o: o, agents: make([]agentShare, o.Agents)}
}

// Phase is how far it is.
func (s *Shares) Phase() Phase { return s.phase }

// Epoch is the one under which packets may be served.
func (s *Shares) Epoch() uint64 { return s.epoch }

// Rival is the host that took it over, in phase Lost.
func (s *Shares) Rival() string { return s.rival }

// VNI is the producer's: its own, or the service's as the agents name it; 0 while neither is known.
func (s *Shares) VNI() uint32 {
	vni := s.o.Target.VNI
	for i := range s.agents {
		if vni == 0 {
			vni = s.agents[i].ack.VNI
		}
	}
	return vni
}

// Leased is how many leases the agents say consumers may be using, and whether all have said it of the latest offer.
func (s *Shares) Leased() (n uint64, all bool) {
	all = true
	for i := range s.agents {
		a := &s.agents[i]
		if a.bound > 0 && (a.ack.Seq < a.since || a.ack.Leased == math.MaxUint32) {
			all = false
			continue
		}
		if a.bound > 0 {
			n += uint64(a.ack.Leased)
		}
	}
	return n, all
}

// Share is what an agent is offered, and the most it may have granted.
func (s *Shares) Share(agent int) (offered, bound uint32) {
	return s.agents[agent].share, s.agents[agent].bound
}

// SetState tells the agents, with the next Step, that the producer is serving, draining or gone.
func (s *Shares) SetState(state State) {
	if s.state == state {
		return
	}
	s.state = state
	for i := range s.agents {
		s.agents[i].next = 0
		s.agents[i].since = s.seq + 1
	}
}

// SetAbsent says that the producer has not been seen alive on this host. Until it has been, it is not taken from another
// host, nor offered for the first time: an agent that starts where the instance was once must not end it where it is.
func (s *Shares) SetAbsent(absent bool) {
	if s.absent && !absent && s.phase == Asking {
		s.started = false // what agents have said until now may be old
		for i := range s.agents {
			s.agents[i].known, s.agents[i].next, s.agents[i].delay = false, 0, 0
		}
	}
	s.absent = absent
}

// Rejoined makes the next Step write to an agent at once: its connection stands again.
func (s *Shares) Rejoined(agent int) { s.agents[agent].next, s.agents[agent].delay = 0, 0 }

// Step returns what is to be sent now, and when to step again at the latest.
func (s *Shares) Step(now time.Duration) (offers []Offer, next time.Duration) {
	next = now + lastRetry
	if s.phase == Lost {
		return nil, next
	}
	if !s.started {
		s.started, s.asked = true, now
	}
	if s.phase == Asking {
		s.decide(now)
	}
	if s.phase == Holding {
		s.divide(now)
	}
	for i := range s.agents {
		a := &s.agents[i]
		if a.next <= now {
			offers = append(offers, Offer{Agent: i, Hold: s.offer(a)})
			a.delay = min(max(2*a.delay, firstRetry), lastRetry)
			a.next = now + a.delay
		}
		next = min(next, a.next)
		if a.bound > 0 && a.lapses > now {
			next = min(next, a.lapses)
		}
	}
	return offers, next
}

func (s *Shares) offer(a *agentShare) Hold {
	s.seq++
	h := Hold{
		Run: s.o.Run, Seq: s.seq, Service: s.o.Service, Producer: s.o.Producer, Epoch: s.epoch,
		Share: a.share, Keep: s.unsettled, State: s.state, Target: s.o.Target,
	}
	if s.mutant == mutantOverlap {
		h.Share = s.o.Quota
	}
	if s.phase == Holding {
		// The agent noted the stamp before its ack came: counted from then, this side's limit is the later one.
		h.Echo = a.ack.Stamp
		a.lapses = max(a.lapses, a.heard+guard(a.ack.TTL))
	}
	return h
}

// decide ends asking when all agents have answered, or some have and the others were waited for long enough, and the
// producer is here or was here last.
func (s *Shares) decide(now time.Duration) {
	var highest Claim
	var ttl time.Duration
	answered := 0
	for i := range s.agents {
		if a := &s.agents[i]; a.known {
			answered++
			ttl = max(ttl, a.ack.TTL)
			if c := (Claim{a.ack.Highest, a.ack.Holder}); c.over(highest) {
				highest = c
			}
		}
	}
	if answered == 0 || answered < len(s.agents) && now < s.asked+askFor {
		return
	}
	if highest.Host != s.o.Host && s.absent {
		return
	}
	s.phase, s.epoch = Holding, highest.Epoch
	if highest.Host != s.o.Host {
		s.epoch++
	}
	for i := range s.agents {
		a := &s.agents[i]
		a.next, a.delay = 0, 0
		if a.known {
			// An earlier process of this host may have given it a share: it keeps what it has.
			a.share = min(a.ack.Share, s.o.Quota)
			a.bound = max(a.ack.Share, a.ack.Leased)
			a.lapses = a.heard + guard(ttl)
		} else {
			a.bound, a.lapses = math.MaxUint32, now+guard(ttl)
		}
	}
}

// quota is the host's, or what the operator allows if that is less.
func (s *Shares) quota() uint32 {
	q := s.o.Quota
	for i := range s.agents {
		if allowed := s.agents[i].ack.Quota; allowed > 0 {
			q = min(q, allowed)
		}
	}
	return q
}

// divide moves every agent's share towards an equal part of the quota among those that answer: down at once, up only
// by what no other agent can have granted.
func (s *Shares) divide(now time.Duration) {
	quota, alive := s.quota(), uint32(0)
	free := int64(quota)
	for i := range s.agents {
		a := &s.agents[i]
		if a.lapses <= now {
			a.share, a.bound = 0, 0
		}
		free -= int64(a.bound)
		if s.takes(a, now) {
			alive++
		}
	}
	if unsettled := free < 0; unsettled != s.unsettled {
		s.unsettled = unsettled
		for i := range s.agents {
			s.agents[i].next = 0
		}
	}
	turn := uint32(0)
	for i := range s.agents {
		a := &s.agents[i]
		want := uint32(0)
		if s.takes(a, now) {
			want = quota / alive
			// What does not divide goes to different agents for different producers.
			if (turn+uint32(hash(s.o.Producer)))%alive < quota%alive {
				want++
			}
			turn++
		}
		share := want
		switch {
		case want > a.share && free < 0:
			share = a.share // what an agent may have granted is not known yet
		case want > a.bound:
			raise := min(int64(want-a.bound), free)
			share = a.bound + uint32(raise)
			free -= raise
		}
		if share != a.share {
			a.share, a.since = share, s.seq+1
			a.next, a.delay = 0, 0
		}
		if share > a.bound {
			a.bound = share
			a.lapses = max(a.lapses, a.heard+guard(a.ack.TTL))
		}
	}
}

// takes says whether an agent can use a share.
func (s *Shares) takes(a *agentShare, now time.Duration) bool {
	return a.known && (a.ack.Status == OK || a.ack.Status == Wait) && now < a.heard+a.ack.TTL
}

// Acked takes an agent's answer.
func (s *Shares) Acked(now time.Duration, agent int, m Ack) {
	a := &s.agents[agent]
	if a.known && m.Seq <= a.ack.Seq || m.Seq > s.seq {
		return
	}
	first := !a.known || a.ack.Stamp.Run != m.Stamp.Run
	a.ack, a.heard, a.known, a.delay = m, now, true, 0
	pace := m.TTL / 12 // six times in the TTL of a lease: what is missed that often is silent
	if pace == 0 || s.phase == Asking {
		pace = askEvery
	}
	a.next = now + pace
	switch {
	case s.phase == Asking:
	case m.Status == Superseded:
		if m.Holder == s.o.Host {
			// Another agent knows a later epoch of this same host, from before a restart.
			s.epoch = m.Highest
			for i := range s.agents {
				s.agents[i].next = 0
			}
			return
		}
		s.phase, s.rival = Lost, m.Holder
	case m.Status == Wait:
		a.next, a.delay = now+firstRetry, firstRetry
	case m.Status == OK && m.Seq >= a.since:
		a.bound = min(a.bound, max(a.share, m.Leased))
	}
	if first && s.phase == Holding {
		a.next = 0 // its stamp was not known: what was sent held nothing
	}
}
