package engine

import (
	"net/netip"
	"time"
)

// Bounds of what is sent; every message within them fits in one datagram (MaxMessage).
const (
	MaxName    = 63 // bytes of the name of a service, a producer or a host
	MaxLeases  = 8  // leases of one service at one consumer
	MaxMessage = 1200
	MaxTTL     = time.Hour
)

// Target is where a lease leads: a host, and the instance on it.
type Target struct {
	Host netip.Addr // the underlay address that takes VXLAN
	VNI  uint32
	MAC  [6]byte // inner destination; zero: the host's own stack
}

// Want is a consumer's request: "of you I want that many leases of the service; these I use". It renews them all.
type Want struct {
	Run     uint64 // of the consumer's process, random
	Seq     uint64 // grows with every Want of the run
	Service string
	Leases  uint8    // how many, with those in Held that are this agent's
	Held    []Held   // everything in use, also from other agents; at most MaxLeases
	Failed  []string // producers that do not answer; at most MaxLeases
}

// Held is a lease in use.
type Held struct {
	Producer string
	Token    uint64
}

// Status is an agent's answer.
type Status uint8

// The answers. Wait promises nothing and takes nothing away: ask again soon.
const (
	OK Status = iota
	Unknown
	Wait
	Superseded // Ack: another host has the producer, with a higher epoch
	Refused    // Ack: this host may not offer the producer
)

func (s Status) String() string {
	return name(s, "ok", "unknown service", "wait", "superseded", "refused")
}

// Grant answers a Want. Leases are all that the consumer has of this agent now; one it used that is missing is over.
type Grant struct {
	Seq       uint64
	Service   string
	Status    Status
	TTL       time.Duration // the service's; renewals are due at a third of it
	Addresses []netip.Addr  // of the service; at most 2
	Leases    []Lease       // at most MaxLeases
}

// Lease is one granted lease.
type Lease struct {
	Producer string
	Token    uint64
	Epoch    uint64        // of the producer
	TTL      time.Duration // from the sending of the Want; 0: as before, the agent has yet to learn of the producer
	Draining bool          // for the flows it has, and no new ones; it does not count among those wanted
	Target   Target
}

// State is a producer's.
type State uint8

// The states. Draining: no new leases, and no new flows on those there are; Gone: dead, consumers are told at once.
const (
	Serving State = iota
	Draining
	Gone
)

func (s State) String() string { return name(s, "serving", "draining", "gone") }

// Stamp is an agent's note to itself: "what echoes this holds until Expires on my clock".
type Stamp struct {
	Run     uint64
	Expires time.Duration
}

// Hold is a producer's offer to one agent: "you hold that much of my quota". Epoch 0 only asks.
type Hold struct {
	Run, Seq          uint64
	Echo              Stamp // of the latest Ack
	Service, Producer string
	Epoch             uint64
	Share             uint32
	// Keep: what another agent, or this one, has granted is not known yet. Leases beyond Share are renewed, not shed.
	Keep   bool
	State  State
	Target Target
}

// Ack answers a Hold.
type Ack struct {
	Seq               uint64
	Stamp             Stamp
	Service, Producer string
	Status            Status
	TTL               time.Duration // of the hold, from the sending of the Hold that echoes Stamp
	Highest           uint64        // epoch known of the producer
	Holder            string        // the host that has it
	VNI               uint32        // of the service
	Quota             uint32        // what the operator allows; 0: no limit of his
	Share             uint32        // what the agent takes for its share
	Leased            uint32        // leases of it that consumers may be using
}

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "unknown"
}
