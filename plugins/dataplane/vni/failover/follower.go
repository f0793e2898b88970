package failover

import (
	"cmp"
	"slices"
	"time"
)

// Follower is a host's side.
type Follower struct {
	term    uint64
	version uint32 // carried out, in this term
	entries []Entry
	states  map[key]*held
	health  map[key]bool
	echoes  []time.Duration // by box, of this term
	led     time.Duration   // when the last lease came, or the term began
	number  uint64
	mutant  mutant
}

type key struct {
	id       uint32
	instance string
}

// held is what a host remembers of one of its ends.
type held struct {
	epoch    uint64 // the highest heard of
	attached bool
	released uint64 // the last epoch that was let go: never taken again
}

// A Step is what a host has to do to one of its ends.
type Step struct {
	Entry
	Attach bool // else detach
}

// NewFollower makes the side of a host that may talk to the given number of boxes.
func NewFollower(boxes int) *Follower {
	return &Follower{states: map[key]*held{}, health: map[key]bool{}, echoes: make([]time.Duration, boxes)}
}

// Resume tells a new process what an earlier one left attached in the packet program.
func (f *Follower) Resume(known []Known) {
	for _, k := range known {
		f.states[key{k.Interface, k.Instance}] = &held{epoch: k.Epoch, attached: k.Attached}
	}
}

// Beat makes the next beat for a box. Incarnation and Underlay are the caller's to fill in.
func (f *Follower) Beat(now time.Duration, box int) Beat {
	f.number++
	b := Beat{Number: f.number, Term: f.term, Version: f.version, Unled: now - f.led, Echo: f.echoes[box]}
	if f.version != 0 {
		for _, e := range f.entries {
			k := key{e.Interface, e.Instance}
			b.States = append(b.States, EntryState{f.health[k], f.states[k].attached})
		}
	}
	return b
}

// Reply takes a box's answer to the beat that was sent at the given time. until is the end of the lease it
// gives, 0 if it gives none; pull says that the box has another assignment.
func (f *Follower) Reply(now, sent time.Duration, box int, r Reply) (until time.Duration, pull bool) {
	if r.Term < f.term && f.mutant != lowerTermObeyed {
		return 0, false
	}
	f.follow(now, r.Term)
	if !r.Leads {
		return 0, false
	}
	f.echoes[box] = max(f.echoes[box], r.Echo)
	if r.Version != f.version {
		return 0, true
	}
	if r.Lease == 0 {
		return 0, false
	}
	f.led = now
	if f.mutant == leaseFromReceipt {
		return now + r.Lease, false
	}
	return sent + r.Lease, false
}

func (f *Follower) follow(now time.Duration, term uint64) {
	if term > f.term {
		f.term, f.version, f.led = term, 0, now // its leader has its time to find a majority
		clear(f.echoes)
	}
}

// Newer says whether an assignment comes after what the host has carried out.
func (f *Follower) Newer(a Assignment) bool {
	return a.Term > f.term || a.Term == f.term && a.Version > f.version
}

// Assign takes an assignment and returns what it asks for, detaching first. It is carried out when Applied is
// called; one that is older than the present asks for nothing and is not to be applied.
func (f *Follower) Assign(now time.Duration, a Assignment) (steps []Step, ok bool) {
	if !f.Newer(a) {
		return nil, false
	}
	f.follow(now, a.Term)
	f.version = 0 // between two versions no beat must claim either
	wanted := map[key]bool{}
	for _, e := range a.Entries {
		k := key{e.Interface, e.Instance}
		wanted[k] = true
		s := f.states[k]
		if s == nil {
			s = &held{}
			f.states[k] = s
		}
		if s.attached && e.Attached && s.epoch == e.Epoch {
			continue
		}
		if s.attached {
			steps = append(steps, Step{Entry: e})
		}
		s.epoch = max(s.epoch, e.Epoch)
		if !e.Attached || (e.Epoch <= s.released && f.mutant != releaseNotRemembered) {
			continue
		}
		if f.health[k] {
			steps = append(steps, Step{e, true})
		} else {
			s.released = max(s.released, e.Epoch) // the box will see it unattached, and give it to another
		}
	}
	for k, s := range f.states {
		if wanted[k] {
			continue
		}
		if s.attached {
			steps = append(steps, Step{Entry: Entry{Interface: k.id, Instance: k.instance, Epoch: s.epoch}})
		}
	}
	slices.SortStableFunc(steps, func(a, b Step) int {
		if a.Attach != b.Attach {
			if b.Attach {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Interface, b.Interface)
	})
	f.entries = a.Entries
	return steps, true
}

// Done reports one step's outcome. What could not be attached is let go.
func (f *Follower) Done(s Step, ok bool) {
	h := f.states[key{s.Interface, s.Instance}]
	switch {
	case h == nil:
	case s.Attach && ok:
		h.attached = true
	case s.Attach:
		h.released = max(h.released, s.Epoch)
	case ok:
		h.attached = false
		h.released = max(h.released, s.Epoch)
	}
}

// Applied says that all steps of an assignment that detach were carried out.
func (f *Follower) Applied(a Assignment) {
	if a.Term != f.term {
		return
	}
	f.version = a.Version
	listed := map[key]bool{}
	for _, e := range a.Entries {
		listed[key{e.Interface, e.Instance}] = true
	}
	for k := range f.states {
		if !listed[k] {
			delete(f.states, k)
		}
	}
}

// Health takes an instance's health. An attached end that is not healthy is to be detached, before the next
// beat; carry the step out and report it with Done.
func (f *Follower) Health(id uint32, instance string, healthy bool) (step Step, must bool) {
	k := key{id, instance}
	f.health[k] = healthy
	s := f.states[k]
	if healthy || s == nil || !s.attached {
		return Step{}, false
	}
	return Step{Entry: Entry{Interface: id, Instance: instance, Epoch: s.epoch}}, true
}

// Known lists what the host remembers, for Engine.Pull.
func (f *Follower) Known() []Known {
	out := make([]Known, 0, len(f.states))
	for k, s := range f.states {
		out = append(out, Known{k.id, k.instance, s.epoch, s.attached})
	}
	slices.SortFunc(out, func(a, b Known) int {
		return cmp.Or(cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.Instance, b.Instance))
	})
	return out
}

// Entries is the assignment that is being followed.
func (f *Follower) Entries() []Entry { return f.entries }

// Term is the highest term the host has heard of.
func (f *Follower) Term() uint64 { return f.term }
