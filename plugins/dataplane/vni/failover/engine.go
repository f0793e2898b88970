package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Engine is a box's side.
type Engine struct {
	o      Options
	voters map[string]bool // the hosts that elect a leader

	term    uint64 // in which this box leads or last led
	asked   uint64 // term that is being made durable
	highest uint64 // term any host has heard of
	leading bool
	ledAt   time.Duration
	// quorumUntil is when the majority's last proof is over; settledAt when everything an older leader may
	// have granted is.
	quorumUntil, settledAt time.Duration

	hosts   map[string]*host
	vnis    map[uint32]*vni
	ids     []uint32 // of vnis, sorted: equal inputs give equal outputs
	dirty   map[*host]bool
	actions []Action
}

// New makes an engine that leads once it is ticked, if it has no peers.
func New(o Options) *Engine {
	return &Engine{o: o.withDefaults(), hosts: map[string]*host{}, vnis: map[uint32]*vni{}, dirty: map[*host]bool{}}
}

// Take returns what is to be done since the last call, in order.
func (e *Engine) Take() []Action {
	a := e.actions
	e.actions = nil
	return a
}

// Restore gives the engine what an earlier one of this box stored; before anything else, but after Define.
func (e *Engine) Restore(term uint64, records map[uint32]Record) {
	e.highest = max(e.highest, term)
	for id, r := range records {
		if v := e.vnis[id]; v != nil {
			v.epoch, v.owner = r.Epoch, v.candidate(r.Owner)
		}
	}
}

// Voters sets the hosts of which a majority follows a leader: the same at all boxes, but while one of them is added or
// taken away.
func (e *Engine) Voters(hosts []string) {
	e.voters = map[string]bool{}
	for _, name := range hosts {
		e.voters[name] = true
	}
}

// Define sets the VNIs that are to be. What is known of one that stays is kept.
func (e *Engine) Define(now time.Duration, all []Interface) {
	wanted := map[uint32]bool{}
	for _, i := range all {
		wanted[i.ID] = true
		v := e.vnis[i.ID]
		if v == nil {
			v = &vni{owner: nobody, state: recovering}
			e.vnis[i.ID] = v
		}
		e.redefine(now, v, i)
	}
	for id, v := range e.vnis {
		if !wanted[id] {
			e.touchAll(v)
			delete(e.vnis, id)
		}
	}
	e.ids = e.ids[:0]
	for _, h := range e.hosts {
		h.vnis = nil
	}
	for id := range e.vnis {
		e.ids = append(e.ids, id)
	}
	slices.Sort(e.ids)
	for _, id := range e.ids {
		for _, c := range e.vnis[id].candidates {
			if n := len(c.host.vnis); n == 0 || c.host.vnis[n-1] != e.vnis[id] {
				c.host.vnis = append(c.host.vnis, e.vnis[id])
			}
		}
	}
	e.flush(now)
}

func (e *Engine) redefine(now time.Duration, v *vni, i Interface) {
	e.touchAll(v)
	before := v.candidates
	var owner *Candidate
	if v.owner != nobody {
		owner = &before[v.owner].Candidate
	}
	v.Interface, v.candidates, v.wish, v.next = i, nil, 0, v.next.again()
	for _, c := range i.Candidates {
		k := slices.IndexFunc(before, func(b *candidate) bool { return b.Candidate == c })
		if k >= 0 {
			v.candidates = append(v.candidates, before[k])
		} else {
			v.candidates = append(v.candidates, &candidate{Candidate: c, host: e.host(c.Host)})
		}
	}
	if owner != nil {
		if v.owner = v.candidate(*owner); v.owner == nobody && v.held() {
			// The configuration took it away from its owner, who must have let go before anyone else gets it.
			e.fence(now, v, before[slices.IndexFunc(before, func(b *candidate) bool { return b.Candidate == *owner })].host)
		}
	}
	e.touchAll(v)
}

// Stored says that a record is durable.
func (e *Engine) Stored(now time.Duration, id uint32, r Record) {
	if v := e.vnis[id]; v != nil && v.next.epoch == r.Epoch {
		v.next.stored = true
		e.step(now, v)
		e.flush(now)
	}
}

// Beat takes a host's beat and returns the answer.
func (e *Engine) Beat(now time.Duration, name string, b Beat) Reply {
	h := e.host(name)
	if b.Incarnation == h.incarnation && b.Number <= h.number {
		return e.reply(now, h) // overtaken by a later one: says nothing about the present
	}
	if b.Incarnation != h.incarnation {
		h.reported = false
	}
	if b.Incarnation != h.incarnation || b.Term != h.term {
		h.forget()
	}
	if h.heard && now-h.last > e.o.silence() {
		e.failed(now, h)
	}
	h.heard, h.last = true, now
	h.incarnation, h.number, h.term = b.Incarnation, b.Number, b.Term
	h.unled, h.underlay = b.Unled, b.Underlay
	e.highest = max(e.highest, b.Term)
	if e.leading && b.Term > e.term {
		e.stepDown(fmt.Sprintf("host %s follows a newer term", name))
	}
	if !e.leading || b.Term != e.term {
		return e.reply(now, h)
	}
	h.have, h.proved = b.Version, b.Echo
	if h.have == h.want && len(b.States) == len(h.entries) {
		e.observe(now, h, b.States)
	}
	for _, v := range h.vnis {
		e.step(now, v)
	}
	if h.want == 0 { // it has no entries, and is to know that
		e.touch(h)
	}
	e.flush(now)
	r := e.reply(now, h)
	if e.mayGrant(now, h) {
		r.Lease = e.o.Lease
		h.grantEnd = now + e.o.Lease
	}
	return r
}

func (e *Engine) reply(now time.Duration, h *host) Reply {
	if !e.leading {
		return Reply{Term: e.highest, Echo: now}
	}
	return Reply{Term: e.term, Version: h.want, Leads: true, Echo: now}
}

func (e *Engine) mayGrant(now time.Duration, h *host) bool {
	behind := h.have != h.want && e.o.mutant != grantBehind
	return h.have != 0 && !behind && e.majority(now) && e.sure(now)
}

// Pull takes what a host knows and returns what it is to do. ok is false while this box does not lead.
func (e *Engine) Pull(now time.Duration, name string, known []Known) (a Assignment, ok bool) {
	if !e.leading {
		return Assignment{}, false
	}
	h := e.host(name)
	h.reported = true
	for _, k := range known {
		if v := e.vnis[k.Interface]; v != nil {
			e.learn(now, v, Candidate{name, k.Instance}, k)
		}
	}
	for _, v := range h.vnis {
		e.step(now, v)
	}
	e.flush(now)
	return Assignment{Term: e.term, Version: h.want, Entries: slices.Clone(h.entries)}, true
}

// learn merges what a host knows of a VNI: a leader before this one may have moved it.
func (e *Engine) learn(now time.Duration, v *vni, c Candidate, k Known) {
	switch {
	case k.Epoch >= v.epoch && (v.state == recovering || v.state == attaching && !e.sure(now)):
		if k.Epoch > v.epoch {
			e.touchAll(v)
			v.state, v.epoch, v.owner, v.found = recovering, k.Epoch, nobody, false
		}
		if k.Attached {
			v.owner = v.candidate(c)
			v.found = v.owner != nobody && v.state == recovering
		}
	case k.Epoch > max(v.epoch, v.next.epoch):
		// Late news of an attachment that is over. Its epoch must not be used again, nor anything below it.
		e.note(v, "%s knows epoch %d, ahead of %d", c, k.Epoch, v.epoch)
		v.epoch, v.next = k.Epoch, v.next.again()
		if v.held() {
			e.fence(now, v, v.candidates[v.owner].host)
		}
	}
}

// Move hands a VNI to a candidate on an operator's word.
func (e *Engine) Move(now time.Duration, id uint32, to Candidate) error {
	v := e.vnis[id]
	if v == nil {
		return fmt.Errorf("move VNI %d: there is no such VNI", id)
	}
	k := v.candidate(to)
	switch {
	case k == nobody:
		return fmt.Errorf("move VNI %d: %s is not one of its candidates", id, to)
	case !e.leading:
		return fmt.Errorf("move VNI %d: another control plane leads: ask that one", id)
	case v.state != attached:
		return fmt.Errorf("move VNI %d: it is %s; try again when it is attached", id, v.state)
	case v.owner == k:
		return nil
	case !e.alive(now, v.candidates[k].host) || !v.candidates[k].healthy:
		return fmt.Errorf("move VNI %d: %s is not healthy", id, to)
	}
	v.wish = k + 1
	e.note(v, "moved to %s by an operator", to)
	e.fence(now, v, v.candidates[v.owner].host)
	e.step(now, v)
	e.flush(now)
	return nil
}

// Tick looks at what time alone changes; about every 10 ms while there are VNIs.
func (e *Engine) Tick(now time.Duration) {
	e.elect(now)
	if !e.leading {
		return
	}
	for _, id := range e.ids {
		e.step(now, e.vnis[id])
	}
	e.flush(now)
}

// flush gives every host whose entries changed a new version.
func (e *Engine) flush(now time.Duration) {
	if !e.leading {
		clear(e.dirty)
		return
	}
	changed := make([]*host, 0, len(e.dirty))
	for h := range e.dirty {
		changed = append(changed, h)
	}
	clear(e.dirty)
	slices.SortFunc(changed, func(a, b *host) int { return cmp.Compare(a.name, b.name) })
	for _, h := range changed {
		h.want++
		h.entries = e.entries(h)
		e.act(Poke{h.name, e.reply(now, h)})
	}
}

func (e *Engine) entries(h *host) []Entry {
	var out []Entry
	for _, v := range h.vnis {
		for i, c := range v.candidates {
			if c.host == h {
				out = append(out, Entry{
					Interface: v.ID, Instance: c.Instance, MAC: v.MAC, Addresses: v.Addresses,
					Epoch: v.epoch, Attached: v.held() && v.owner == i,
				})
			}
		}
	}
	return out
}

func (e *Engine) act(a Action) { e.actions = append(e.actions, a) }

func (e *Engine) note(v *vni, format string, args ...any) {
	e.act(Note{v.ID, fmt.Sprintf(format, args...)})
}

func (e *Engine) touch(h *host) { e.dirty[h] = true }

func (e *Engine) touchAll(v *vni) {
	for _, c := range v.candidates {
		e.touch(c.host)
	}
}

func (c Candidate) String() string { return c.Host + "/" + c.Instance }
