package failover

import (
	"net/netip"
	"time"
)

// Interface is a VNI as configured.
type Interface struct {
	ID         uint32 // 24 bits: the VXLAN id
	MAC        [6]byte
	Addresses  []netip.Addr
	Candidates []Candidate // who may hold it, the preferred first
}

// Candidate is an instance that has an end of the VNI plugged in.
type Candidate struct{ Host, Instance string }

// Entry is one candidate's part of a VNI, as its host is told.
type Entry struct {
	Interface uint32       `json:"vni"`
	Instance  string       `json:"instance"`
	MAC       [6]byte      `json:"mac"`
	Addresses []netip.Addr `json:"addresses"`
	Epoch     uint64       `json:"epoch"`
	Attached  bool         `json:"attached"` // this candidate holds the VNI
}

// Assignment is all that a host is to hold or to stand by for.
type Assignment struct {
	Term    uint64  `json:"term"`
	Version uint32  `json:"version"`
	Entries []Entry `json:"entries"`
}

// Known is what a host remembers of a VNI; a box that starts to lead learns from it.
type Known struct {
	Interface uint32 `json:"vni"`
	Instance  string `json:"instance"`
	Epoch     uint64 `json:"epoch"`
	Attached  bool   `json:"attached"`
}

// Beat is a host's word, sent to every box.
type Beat struct {
	Incarnation uint64        // of the agent's process
	Number      uint64        // grows with each beat of an incarnation
	Term        uint64        // the highest that the host has heard of
	Version     uint32        // of the assignment it has carried out, in this term; 0: none
	Unled       time.Duration // since it got a lease, or heard of a newer term
	Echo        time.Duration // of the last reply of this box in this term
	Underlay    netip.Addr    // where packets for its VNIs are sent
	States      []EntryState  // one for each entry of Version
}

// EntryState is how an entry stands on its host.
type EntryState struct{ Healthy, Attached bool }

// Reply is a box's answer to a beat, or (with no lease) its word that something changed.
type Reply struct {
	Term    uint64
	Version uint32        // the assignment it wants the host to have
	Lease   time.Duration // from sending the beat; 0: none
	Leads   bool          // false: the box only listens
	Echo    time.Duration // when it was sent, by the box's clock
}

// Location is where a VNI is.
type Location struct {
	Interface Interface
	Holder    Candidate
	Underlay  netip.Addr
	Epoch     uint64
	Up        bool // confirmed by its host, which is not silent
}

// Record is what a box must find again after a restart.
type Record struct {
	Epoch uint64    `json:"epoch"`
	Owner Candidate `json:"owner"`
}

// An Action is one of the types below: what the adapter is to do.
type Action interface{ action() }

type (
	// StoreTerm makes the term durable; call Engine.TermStored then.
	StoreTerm struct{ Term uint64 }
	// Store makes a record durable; call Engine.Stored then.
	Store struct {
		Interface uint32
		Record    Record
	}
	// Poke tells a host that there is a new version. It may be lost: the next beat's reply says so again.
	Poke struct {
		Host  string
		Reply Reply
	}
	// Moved says that a VNI is up at a place, or that it is not up any more.
	Moved struct{ Location Location }
	// Note is an event for the log.
	Note struct {
		Interface uint32
		Text      string
	}
)

func (StoreTerm) action() {}
func (Store) action()     {}
func (Poke) action()      {}
func (Moved) action()     {}
func (Note) action()      {}

// Options of an Engine. The zero value is one box with the intervals of the field's usual 150 ms.
type Options struct {
	Beat   time.Duration // 50 ms
	Misses int           // 3: this many beats without a word is silence
	Lease  time.Duration // 150 ms
	// Margin is what two clocks may drift apart over a lease, and what a program that has already read the
	// time may take to hand on its packet: 5 ms.
	Margin time.Duration

	Self  uint8 // number of this box among the control planes
	Peers int   // how many others there are

	HoldDown    time.Duration // 250 ms, of a first failure
	HoldDownMax time.Duration // 30 s
	Quiet       time.Duration // 60 s without a failure forget all of them

	// Grace is how long a new leader waits for an owner that it has not heard yet: 2 s, in which hosts join again.
	Grace time.Duration

	mutant mutant
}

// mutant is a deliberate break of one rule; tests must catch each.
type mutant uint8

const (
	none                 mutant = iota
	fenceNotAwaited             // a silent owner's lease is not waited for
	grantBehind                 // a host gets a lease for a version it has not carried out
	grantWithoutQuorum          // a leader without a majority goes on granting
	settleNotAwaited            // a new leader moves at once
	leaseFromReceipt            // (host) the lease counts from the reply
	lowerTermObeyed             // (host) an older leader's grants are taken
	epochNotStored              // an epoch is used before it is durable
	releaseNotRemembered        // (host) what it let go it takes again at the same epoch
)

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&o.Beat, 50*time.Millisecond)
	set(&o.Lease, 150*time.Millisecond)
	set(&o.Margin, 5*time.Millisecond)
	set(&o.HoldDown, 250*time.Millisecond)
	set(&o.HoldDownMax, 30*time.Second)
	set(&o.Quiet, time.Minute)
	set(&o.Grace, 2*time.Second)
	if o.Misses == 0 {
		o.Misses = 3
	}
	return o
}

// silence is how long a host may say nothing before it counts as silent.
func (o Options) silence() time.Duration { return time.Duration(o.Misses) * o.Beat }

// proof is how long a host counts for a majority after the reply it echoes was sent: a beat later than silence,
// because an echo is a beat old.
func (o Options) proof() time.Duration { return o.silence() + o.Beat }

// settle is how long a new leader waits before it moves anything: what an older one granted lasts a lease, and
// it may go on granting until its majority's proof is over.
func (o Options) settle() time.Duration {
	if o.Peers == 0 {
		return o.Lease + o.Margin
	}
	return o.proof() + o.Lease + o.Margin
}

// patience is how long hosts must have been without a lease before this box takes over; it differs among boxes.
func (o Options) patience() time.Duration {
	return 10*o.Beat + time.Duration(o.Self)*5*o.Beat
}

// attachTimeout is how long a host that beats may take to carry out an assignment.
func (o Options) attachTimeout() time.Duration { return 20 * o.Beat }
