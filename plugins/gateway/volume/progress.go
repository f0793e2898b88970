package volume

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// progress is how far the upload is behind the log.
type progress struct {
	at     atomic.Int64 // cursor.Pos
	oldest atomic.Int64 // about when the oldest write without a head was acknowledged, 0 when there is none

	mu      sync.Mutex
	cursor  log.Cursor   // the first group that no confirmed head covers
	places  []log.Cursor // where groups begin, in order, for the tail to move to
	head    uint64       // sequence number of the confirmed head
	epoch   uint64       // of our takeover, or the last one known
	wanted  int64        // somebody waits for what is before this position
	batches uint64
	bytes   uint64        // uploaded, as in the log
	changed chan struct{} // closed and replaced at every confirmation and at failure
}

func (p *progress) init(m mark, oldest int64, tail log.Cursor, places []log.Cursor) {
	p.cursor, p.head, p.epoch = m.confirmed, m.headSeq, m.epoch
	p.at.Store(m.confirmed.Pos)
	p.places = []log.Cursor{tail}
	for _, c := range places {
		p.place(c)
	}
	p.place(m.confirmed)
	p.changed = make(chan struct{})
	p.oldest.Store(oldest)
}

// place remembers where a group begins.
func (p *progress) place(c log.Cursor) {
	i, found := slices.BinarySearchFunc(p.places, c, func(a, b log.Cursor) int { return int(min(1, max(-1, a.Pos-b.Pos))) })
	if found || i == 0 { // before the tail
		return
	}
	p.places = slices.Insert(p.places, i, c)
	if len(p.places) > 2*maxPlaces {
		// Every other one will do: the tail moves in strides much longer than these.
		p.places = slices.DeleteFunc(p.places, func() func(log.Cursor) bool {
			i := 0
			return func(log.Cursor) bool { i++; return i%2 == 0 && i < len(p.places) }
		}())
	}
}

// known returns at most n places.
func (p *progress) known(n int) []log.Cursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	step := (len(p.places) + n - 1) / n
	var out []log.Cursor
	for i := 0; i < len(p.places); i += max(step, 1) {
		out = append(out, p.places[i])
	}
	return out
}

// tail picks the place that frees the log up to want, or as much as limit allows, and forgets the ones
// before. It returns the present tail when there is none better.
func (p *progress) tail(want, limit int64) log.Cursor {
	p.mu.Lock()
	defer p.mu.Unlock()
	best := p.places[0]
	for _, c := range p.places {
		if c.Pos > limit {
			break
		}
		best = c
		if c.Pos >= want {
			break
		}
	}
	return best
}

// passed forgets the places before the new tail.
func (p *progress) passed(tail log.Cursor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places = slices.DeleteFunc(p.places, func(c log.Cursor) bool { return c.Pos <= tail.Pos })
	p.places = slices.Insert(p.places, 0, tail)
}

// wrote notes that something is to be uploaded.
func (p *progress) wrote() {
	if p.oldest.Load() == 0 {
		p.oldest.Store(time.Now().UnixNano())
	}
}

func (p *progress) oldestTime() int64 { return p.oldest.Load() }

// confirm tells that a head covers everything before c. oldest is when the group at c was written,
// 0 if there is nothing to upload in it or after.
func (p *progress) confirm(c log.Cursor, headSeq, epoch uint64, bytes, oldest int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor, p.head, p.epoch = c, headSeq, epoch
	p.at.Store(c.Pos)
	p.place(c)
	if bytes > 0 {
		p.batches++
		p.bytes += uint64(bytes)
	}
	p.oldest.Store(oldest)
	p.signal()
}

func (p *progress) signal() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *progress) broadcast() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.signal()
}

// watch returns what is closed at the next change.
func (p *progress) watch() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

func (p *progress) want(pos int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = max(p.wanted, pos)
}

func (p *progress) snapshot() (c log.Cursor, wanted int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cursor, p.wanted
}

// WaitUploaded returns when everything acknowledged before the call is in the store.
func (v *Volume) WaitUploaded(ctx context.Context) error {
	target := v.dirty.Load()
	for {
		changed := v.up.watch()
		if v.up.at.Load() >= target {
			return nil
		}
		if err := v.Err(); err != nil {
			return err
		}
		v.up.want(target)
		poke(v.cut)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// HoldUpload stops and resumes the upload, for an operator. A batch under way is finished.
func (v *Volume) HoldUpload(hold bool) {
	v.hold.Store(hold)
	poke(v.cut)
}
