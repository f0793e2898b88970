// Package election decides which of a few balancers answers for the VIPs.
//
// Every balancer tells its peers at each beat what it is; a peer that was silent for three beats is taken for dead. A
// stand-by becomes active when no active balancer is alive and no living stand-by is better: ready (its flow table is
// in step) before not ready, then by priority, then by name. It never takes over from one that lives: a change costs
// packets and buys nothing. When two are active, after a partition has healed, the one that became so later stays,
// because it was heard by the network last: each activation takes a term above all it has heard of. The loser steps
// down, the winner announces itself again. One whose interface is not there steps down at once.
//
// A partition between two balancers that clients can both reach makes both active. Both forward, and to the same
// backends; connections suffer only where their flow tables have drifted apart meanwhile. It is the price of two, and
// the reason to send beats over the network that clients come from.
//
// The engine is pure; it is stepped with the time since any fixed moment, and is not safe for concurrent use.
package election

import (
	"cmp"
	"time"
)

// Misses is how many beats a peer may be silent for.
const Misses = 3

// Beat is what a balancer says of itself.
type Beat struct {
	Name     string
	Priority int
	Ready    bool
	Active   bool
	Term     uint64
}

// better orders candidates.
func (b Beat) better(o Beat) bool {
	if b.Ready != o.Ready {
		return b.Ready
	}
	if c := cmp.Compare(b.Priority, o.Priority); c != 0 {
		return c > 0
	}
	return b.Name < o.Name
}

// wins says which of two active balancers stays.
func (b Beat) wins(o Beat) bool {
	if b.Term != o.Term {
		return b.Term > o.Term
	}
	return b.better(o)
}

// Node is one balancer.
type Node struct {
	self    Beat
	fault   bool
	every   time.Duration
	since   time.Duration // when it began to listen, or last heard an active one
	peers   map[string]peer
	highest uint64 // term
}

type peer struct {
	beat  Beat
	heard time.Duration
}

// New makes a stand-by that begins to listen now.
func New(now time.Duration, name string, priority int, every time.Duration) *Node {
	return &Node{self: Beat{Name: name, Priority: priority}, every: every, since: now, peers: map[string]peer{}}
}

// Self is what to tell the peers.
func (n *Node) Self() Beat {
	b := n.self
	b.Ready = b.Ready && !n.fault
	return b
}

// Configure changes what an operator chose.
func (n *Node) Configure(priority int, every time.Duration) {
	n.self.Priority, n.every = priority, every
}

// SetReady says whether this balancer's flow table is in step.
func (n *Node) SetReady(ready bool) { n.self.Ready = ready }

// SetFault says whether this balancer can forward nothing: its interface is not there. Then it steps down and stands by for
// nobody, whoever may still hear its beats over another network.
func (n *Node) SetFault(fault bool) { n.fault = fault }

// Heard takes a peer's beat.
func (n *Node) Heard(now time.Duration, b Beat) {
	if b.Name == n.self.Name {
		return
	}
	n.peers[b.Name] = peer{b, now}
	n.highest = max(n.highest, b.Term)
}

// Forget drops a peer that is no longer configured.
func (n *Node) Forget(name string) { delete(n.peers, name) }

// Alive says whether a peer was heard lately.
func (n *Node) Alive(now time.Duration, name string) bool {
	p, ok := n.peers[name]
	return ok && now-p.heard <= Misses*n.every
}

// Active names the balancer that answers for the VIPs, as far as this one knows.
func (n *Node) Active(now time.Duration) string {
	if n.self.Active {
		return n.self.Name
	}
	for name, p := range n.peers {
		if p.beat.Active && n.Alive(now, name) {
			return name
		}
	}
	return ""
}

// Step is called about every beat. It says whether this balancer is active now, and whether it must announce itself:
// it became active, or another one was as well.
func (n *Node) Step(now time.Duration) (active, announce bool) {
	if n.fault {
		n.self.Active, n.since = false, now
		return false, false
	}
	dead := Misses * n.every
	best := n.self
	for name, p := range n.peers {
		if !n.Alive(now, name) {
			continue
		}
		if p.beat.Active {
			n.since = max(n.since, p.heard)
		}
		switch {
		case n.self.Active && p.beat.Active && p.beat.wins(n.self):
			n.self.Active = false
			return false, false
		case n.self.Active && p.beat.Active:
			announce = true
		case p.beat.better(best):
			best = p.beat
		}
	}
	if n.self.Active {
		return true, announce
	}
	// Whoever is better gets twice the time: one that does not come forward is passed over.
	wait := dead
	if best.Name != n.self.Name {
		wait = 3 * dead
	}
	if now-n.since < wait {
		return false, false
	}
	n.highest++
	n.self.Active, n.self.Term = true, n.highest
	return true, true
}
