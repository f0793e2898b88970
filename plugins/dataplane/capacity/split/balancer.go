package split

import "time"

// silent balancers have not answered for as long as they believe a report.
func (b *balancer) silent(now time.Duration) bool { return now-b.heard > b.ttl }

// ceiling is up to where the balancer may dispatch by anything it was ever sent.
func (b *balancer) ceiling(now time.Duration) int64 {
	if !b.known {
		return 0
	}
	highest := b.dispatched
	// The last grant with something in it has run out, on its way and in force, after two TTLs.
	if now-b.raised <= 2*b.ttl {
		for _, g := range b.pending {
			highest = max(highest, g.upTo)
		}
	}
	return int64(highest)
}

// unsure says that the balancer may have dispatched more than it has told, by grants that count as run out: it has not been heard
// since.
func (b *balancer) unsure(now time.Duration) bool {
	if !b.known || now-b.raised <= 2*b.ttl || b.heard-b.raised > 2*b.ttl {
		return false
	}
	for _, g := range b.pending {
		if g.upTo > b.dispatched {
			return true
		}
	}
	return false
}

// promise notes a grant that is about to be sent.
func (b *balancer) promise(g grant) {
	if len(b.pending) == maxPending {
		b.pending[1].upTo = max(b.pending[0].upTo, b.pending[1].upTo)
		b.pending = append(b.pending[:0], b.pending[1:]...)
	}
	b.pending = append(b.pending, g)
}

// confirm drops the grants before the one with this sequence number. It is false for one that is not waited for:
// its reply was overtaken.
func (b *balancer) confirm(sequence uint64) bool {
	for i, g := range b.pending {
		if g.sequence == sequence {
			b.generation = g.generation
			b.pending = append(b.pending[:0], b.pending[i:]...)
			return true
		}
	}
	return false
}

// trail holds a balancer's older counts, the newest first.
type trail struct {
	marks [8]mark
	n     int
}

type mark struct {
	at         time.Duration
	dispatched uint64
}

// note keeps a count unless the last one is younger than gap: the marks must reach back far enough.
func (t *trail) note(now, gap time.Duration, dispatched uint64) {
	if t.n > 0 && now-t.marks[0].at < gap {
		return
	}
	copy(t.marks[1:], t.marks[:])
	t.marks[0] = mark{now, dispatched}
	t.n = min(t.n+1, len(t.marks))
}

// before is the newest count told at that time or earlier, else the oldest one known: a trail begins when a balancer
// is heard first, and what it had dispatched by then has settled.
func (t *trail) before(then time.Duration) uint64 {
	for _, m := range t.marks[:t.n] {
		if m.at <= then {
			return m.dispatched
		}
	}
	return t.marks[max(t.n-1, 0)].dispatched
}
