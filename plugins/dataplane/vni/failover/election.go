package failover

import (
	"slices"
	"time"
)

// elect keeps or takes the lead.
func (e *Engine) elect(now time.Duration) {
	if e.leading {
		e.count(now)
		return
	}
	if e.asked != 0 || (e.o.Peers > 0 && !e.orphaned(now)) {
		return
	}
	// The box's number makes terms of two boxes differ.
	e.asked = (e.highest>>8+1)<<8 | uint64(e.o.Self)
	e.act(StoreTerm{e.asked})
}

// TermStored says that a term is durable: this box leads in it, unless a higher one was heard of meanwhile.
func (e *Engine) TermStored(now time.Duration, term uint64) {
	if term != e.asked {
		return
	}
	e.asked = 0
	if e.highest > term {
		return
	}
	e.term, e.highest, e.leading, e.ledAt = term, term, true, now
	e.quorumUntil, e.settledAt = 0, 0
	for _, h := range e.hosts {
		h.forget()
		h.want, h.entries, h.reported = 0, nil, false
		e.touch(h)
	}
	for _, v := range e.vnis {
		v.state, v.found, v.up, v.wish, v.next = recovering, false, false, 0, v.next.again()
	}
	e.count(now)
	e.flush(now)
}

func (e *Engine) stepDown(why string) {
	e.leading = false
	e.act(Note{Text: "no longer leading: " + why})
}

// orphaned says that a majority of the hosts has had neither lease nor new leader for longer than this one's patience.
func (e *Engine) orphaned(now time.Duration) bool {
	return e.waiting(now) > len(e.voters)/2
}

func (e *Engine) waiting(now time.Duration) (n int) {
	for _, h := range e.hosts {
		if e.voters[h.name] && e.alive(now, h) && h.unled+now-h.last > e.o.patience() {
			n++
		}
	}
	return n
}

// count finds out until when a majority of the hosts is known to follow this term.
func (e *Engine) count(now time.Duration) {
	if e.o.Peers == 0 {
		e.quorumUntil = now + e.o.proof()
	} else {
		var proofs []time.Duration
		for _, h := range e.hosts {
			if e.voters[h.name] && h.term == e.term && h.proved > 0 {
				proofs = append(proofs, h.proved)
			}
		}
		slices.SortFunc(proofs, func(a, b time.Duration) int { return int(b - a) })
		if k := len(e.voters) / 2; k < len(proofs) {
			e.quorumUntil = proofs[k] + e.o.proof()
		}
	}
	if e.settledAt == 0 && now < e.quorumUntil {
		e.settledAt = now + e.o.settle()
		if e.o.mutant == settleNotAwaited {
			e.settledAt = now
		}
	}
}

// settled says that no lease of an older leader can still run.
func (e *Engine) settled(now time.Duration) bool {
	return e.settledAt != 0 && now >= e.settledAt && e.majority(now)
}

// majority says that most hosts are known to follow this term.
func (e *Engine) majority(now time.Duration) bool {
	return now < e.quorumUntil || e.o.mutant == grantWithoutQuorum
}

// sure says that what a host says it has attached is not attached elsewhere too: another box may have moved it
// without that host's knowledge, and its leases must be over. A lone box knows from its own records.
func (e *Engine) sure(now time.Duration) bool {
	return e.o.Peers == 0 || e.settled(now) || e.o.mutant == settleNotAwaited
}

// floor is the lowest epoch of this term. A leader of another box may have used epochs that no host heard of
// which this box hears: each term has 256 of its own (32 if two boxes took terms at the same moment), and that
// is little beside the 32,768 by which the epochs of packets may differ.
func (e *Engine) floor() uint64 {
	if e.o.Peers == 0 {
		return 0
	}
	return e.term>>8<<8 | uint64(e.o.Self&7)<<5
}

// Votes counts the hosts that vote: all of them, and those heard here that wait for a leader.
func (e *Engine) Votes(now time.Duration) (all, waiting int) {
	return len(e.voters), e.waiting(now)
}

// Leads says whether this box leads, in which term, and whether a majority follows.
func (e *Engine) Leads(now time.Duration) (term uint64, leads, majority bool) {
	return e.term, e.leading, e.leading && e.majority(now)
}
