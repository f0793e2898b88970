package failover

import (
	"slices"
	"time"
)

const nobody = -1

// state of a VNI; see the package comment.
type state uint8

const (
	recovering state = iota // a new leader does not yet know who has it
	down                    // nobody has it
	attaching               // assigned, not yet confirmed
	attached
	fencing // taken from its owner, who may still have it
)

func (s state) String() string {
	return [...]string{"recovering", "down", "attaching", "attached", "fencing"}[s]
}

type vni struct {
	Interface
	candidates []*candidate

	state state
	epoch uint64        // of the attachment that is or was last
	owner int           // index in candidates, or nobody
	up    bool          // what Moved said last
	found bool          // recovering: the owner itself said that it has it
	since time.Duration // of attaching
	wish  int           // one more than the candidate an operator wants; 0: none
	next  next          // the attachment to come
	fence fence
}

// next is an attachment that is being made durable.
type next struct {
	epoch  uint64
	target int
	stored bool
}

// again forgets the target, but not that the number was handed out.
func (n next) again() next { return next{epoch: n.epoch, target: nobody} }

// fence is what must come true before a VNI is attached elsewhere: either of the two.
type fence struct {
	host    *host
	version uint32        // that the host must confirm
	end     time.Duration // of its lease
}

type candidate struct {
	Candidate
	host     *host
	healthy  bool
	attached bool // what its host says; counts for the owner only
	since    time.Duration
	failures int
	last     time.Duration // failure
}

func (c *candidate) fail(now time.Duration, o Options) {
	if now-c.last > o.Quiet {
		c.failures = 0
	}
	c.failures++
	c.last, c.since = now, now
}

// held says that the owner may have the VNI and is meant to.
func (v *vni) held() bool { return (v.state == attaching || v.state == attached) && v.owner != nobody }

func (v *vni) candidate(c Candidate) int {
	return slices.IndexFunc(v.candidates, func(k *candidate) bool { return k.Candidate == c })
}

func (e *Engine) eligible(now time.Duration, c *candidate) bool {
	if !c.healthy || c.host.have == 0 || !e.alive(now, c.host) {
		return false
	}
	if c.failures == 0 || now-c.last > e.o.Quiet {
		return true
	}
	hold := min(e.o.HoldDown<<min(c.failures-1, 16), e.o.HoldDownMax)
	return now-c.since >= hold
}

// pick chooses who gets a VNI next: an operator's wish, whoever is being prepared, then by order.
func (e *Engine) pick(now time.Duration, v *vni, not int) int {
	order := make([]int, 0, len(v.candidates)+2)
	order = append(order, v.wish-1)
	if v.next.epoch > v.epoch {
		order = append(order, v.next.target)
	}
	for i := range v.candidates {
		order = append(order, i)
	}
	for _, i := range order {
		if i >= 0 && i < len(v.candidates) && i != not && e.eligible(now, v.candidates[i]) {
			return i
		}
	}
	return nobody
}

// step brings one VNI on as far as it goes now.
func (e *Engine) step(now time.Duration, v *vni) {
	if !e.leading {
		return
	}
	if v.state == recovering {
		e.recover(now, v)
	}
	if v.held() {
		e.watch(now, v)
	}
	if v.state == fencing && e.fenced(now, v) {
		v.state = down
	}
	if v.state == down || v.state == fencing {
		e.place(now, v)
	}
}

// recover finds out who has a VNI after this box began to lead.
func (e *Engine) recover(now time.Duration, v *vni) {
	if v.found {
		// The owner itself says that it is attached. With peers that is not sure yet, but it keeps it meanwhile.
		v.state, v.found, v.since = attaching, false, now
		e.touchAll(v)
		return
	}
	if !e.settled(now) {
		return
	}
	if v.owner != nobody {
		h := v.candidates[v.owner].host
		if !h.reported && now < e.settledAt+e.o.Grace {
			return
		}
	}
	v.state, v.owner = down, nobody
}

// watch looks after a VNI that has an owner.
func (e *Engine) watch(now time.Duration, v *vni) {
	c := v.candidates[v.owner]
	h := c.host
	if !e.alive(now, h) {
		if v.up {
			e.note(v, "host %s is silent for %v", h.name, now-h.last)
			e.lost(v)
		}
		if e.settled(now) && e.pick(now, v, v.owner) != nobody {
			e.fence(now, v, h)
		}
		return
	}
	confirmed := h.have == h.want && !e.dirty[h]
	switch {
	case confirmed && c.attached && !v.up && e.sure(now):
		v.state, v.up, v.wish = attached, true, 0
		e.act(Moved{e.location(v)})
	case confirmed && !c.attached:
		// The host let it go before it said so: no need to wait.
		e.note(v, "%s let it go", c)
		e.lost(v)
		if c.healthy { // else the failure was counted when it was reported
			c.fail(now, e.o)
		}
		v.state, v.owner = down, nobody
		e.touch(h)
	case !confirmed && v.state == attaching && now-v.since > e.o.attachTimeout():
		e.note(v, "%s did not attach it within %v", c, e.o.attachTimeout())
		c.fail(now, e.o)
		e.fence(now, v, h)
	}
}

// lost tells the world, once, that a VNI is not up.
func (e *Engine) lost(v *vni) {
	if !v.up {
		return
	}
	v.up = false
	e.act(Moved{e.location(v)})
}

// fence takes a VNI from a host. From here the host gets no lease before it has confirmed.
func (e *Engine) fence(now time.Duration, v *vni, h *host) {
	e.lost(v)
	v.state = fencing
	v.fence = fence{host: h, version: h.want + 1, end: h.grantEnd + e.o.Margin}
	e.touch(h)
}

func (e *Engine) fenced(now time.Duration, v *vni) bool {
	f := v.fence
	return now >= f.end || f.host.term == e.term && f.host.have >= f.version || e.o.mutant == fenceNotAwaited
}

// place prepares the next attachment of a VNI, and makes it once the last one is over.
func (e *Engine) place(now time.Duration, v *vni) {
	to := e.pick(now, v, nobody)
	if to == nobody || !e.settled(now) {
		return
	}
	if v.next.epoch <= v.epoch || v.next.target != to {
		// A number that was handed to the store is never used for another candidate.
		v.next = next{epoch: max(v.epoch+1, v.next.epoch+1, e.floor()), target: to}
		e.act(Store{v.ID, Record{v.next.epoch, v.candidates[to].Candidate}})
		if e.o.mutant == epochNotStored {
			v.next.stored = true
		}
	}
	if v.state != down || !v.next.stored {
		return
	}
	v.state, v.epoch, v.owner, v.since = attaching, v.next.epoch, to, now
	v.candidates[to].attached = false
	e.note(v, "to %s at epoch %d", v.candidates[to], v.epoch)
	e.touchAll(v) // the others remember the epoch too: they may have to teach a new leader
}

func (e *Engine) location(v *vni) Location {
	l := Location{Interface: v.Interface, Epoch: v.epoch, Up: v.up}
	if v.owner != nobody {
		l.Holder, l.Underlay = v.candidates[v.owner].Candidate, v.candidates[v.owner].host.underlay
	}
	return l
}

// Status is a VNI's line in a table.
type Status struct {
	Location
	State      string
	Candidates []CandidateStatus
}

// CandidateStatus is how a candidate stands.
type CandidateStatus struct {
	Candidate
	Healthy, Eligible bool
	Failures          int
}

// Status lists all VNIs by id.
func (e *Engine) Status(now time.Duration) []Status {
	out := make([]Status, 0, len(e.ids))
	for _, id := range e.ids {
		v := e.vnis[id]
		s := Status{Location: e.location(v), State: v.state.String()}
		for _, c := range v.candidates {
			s.Candidates = append(s.Candidates, CandidateStatus{
				c.Candidate, c.healthy && e.alive(now, c.host), e.eligible(now, c), c.failures,
			})
		}
		out = append(out, s)
	}
	return out
}
