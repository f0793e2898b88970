package lab

import (
	"slices"
	"sync"
	"time"
)

// maxBeats bounds what is kept: the last twenty minutes of a guest.
const maxBeats = 240_000

// beat is one that arrived.
type beat struct {
	at   time.Time
	seq  uint64
	from string // the host's socket of the guest's network: another one after a move
}

// Beats are the heartbeats of a guest as its peers see them.
type Beats struct {
	mu   sync.Mutex
	list []beat
	seen map[uint64]int // sequence number → times
}

func (b *Beats) add(x beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.list) == maxBeats {
		b.list = slices.Delete(b.list, 0, maxBeats/2)
	}
	b.list = append(b.list, x)
	if b.seen == nil {
		b.seen = map[uint64]int{}
	}
	b.seen[x.seq]++
}

// Count is how many have arrived.
func (b *Beats) Count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.list)
}

// Gap is the longest silence that began or ended at or after since, up to until, and how many beats never came between the first and
// last of that time. Without a beat after it a silence lasts until until.
func (b *Beats) Gap(since, until time.Time) (gap time.Duration, lost int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last, first, count := beat{}, uint64(0), 0
	highest := uint64(0)
	for _, x := range b.list {
		if x.at.After(until) {
			break
		}
		if !x.at.Before(since) {
			if !last.at.IsZero() {
				gap = max(gap, x.at.Sub(last.at))
			}
			if count == 0 {
				first = x.seq
			}
			count++
			highest = max(highest, x.seq)
		}
		last = x
	}
	if !last.at.IsZero() {
		gap = max(gap, until.Sub(last.at))
	}
	if count > 0 {
		lost = int(highest-first) + 1 - count
	}
	return gap, max(lost, 0)
}

// Around is the silence that a moment falls into: that of a switch, when it is when the guest went on. The first beat after it may
// be one that the guest had sent before and its new host has found in the card, so the silence after that one counts as well, if it
// is longer. Zero means that no beat came before the moment or none has come after it.
func (b *Beats) Around(at time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.list, func(x beat) bool { return x.at.After(at) })
	if i <= 0 {
		return 0
	}
	gap := b.list[i].at.Sub(b.list[i-1].at)
	if i+1 < len(b.list) {
		gap = max(gap, b.list[i+1].at.Sub(b.list[i].at))
	}
	return gap
}

// Twins are the sequence numbers that came more than once. Loopback does not copy datagrams: two guests with the same
// memory have run.
func (b *Beats) Twins() []uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []uint64
	for seq, n := range b.seen {
		if n > 1 {
			out = append(out, seq)
		}
	}
	slices.Sort(out)
	return out
}
