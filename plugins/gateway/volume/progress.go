package volume

import (
	"context"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// progress is how far the upload is behind the log.
type progress struct {
	mu        sync.Mutex
	cursor    log.Cursor // the first group that no confirmed head covers
	confirmed uint64     // sequence number of the confirmed head
	epoch     uint64     // of our takeover, or the last one known
	durable   uint64
	oldest    time.Time // when the group at cursor was written; zero when there is none
	wanted    uint64    // somebody waits for this sequence number
	batches   uint64
	bytes     uint64        // uploaded, as in the log
	changed   chan struct{} // closed and replaced at every confirmation and at failure
}

func (p *progress) init(k known, tail log.Cursor, durable uint64, oldest time.Time) {
	p.cursor, p.confirmed, p.epoch, p.durable = tail, max(k.confirmed, tail.Seq-1), k.epoch, durable
	p.changed = make(chan struct{})
	p.oldest = oldest
}

func (p *progress) published(g *log.Group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.durable = g.Seq
	if p.oldest.IsZero() {
		p.oldest = time.Unix(0, g.Time)
	}
}

// confirm tells that a head covers everything before c. oldest is when the group at c was written
// if there is one.
func (p *progress) confirm(c log.Cursor, epoch uint64, bytes int64, oldest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cursor, p.confirmed, p.epoch = c, c.Seq-1, epoch
	if bytes > 0 {
		p.batches++
		p.bytes += uint64(bytes)
	}
	p.oldest = time.Time{}
	if p.durable > p.confirmed {
		p.oldest = oldest
	}
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

func (p *progress) snapshot() (c log.Cursor, k known) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cursor, known{epoch: p.epoch, confirmed: p.confirmed}
}

// due says whether a batch must be cut now, or after what time it must. Without dirty data it says never.
func (p *progress) due(dirty, pressure int64, maxAge time.Duration) (now bool, in time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.durable <= p.confirmed {
		return false, -1
	}
	age := time.Since(p.oldest)
	return dirty >= pressure || p.wanted > p.confirmed || age >= maxAge, max(maxAge-age, 0)
}

// WaitUploaded returns when everything acknowledged before the call is in the store.
func (v *Volume) WaitUploaded(ctx context.Context) error {
	target := v.log.DurableSeq()
	for {
		v.up.mu.Lock()
		done := v.up.confirmed >= target
		v.up.wanted = max(v.up.wanted, target)
		changed := v.up.changed
		v.up.mu.Unlock()
		if done {
			return nil
		}
		if err := v.Err(); err != nil {
			return err
		}
		poke(v.cut)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
