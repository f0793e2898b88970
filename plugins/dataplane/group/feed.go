package group

import (
	"context"
	"time"
)

const (
	methodPull = "groups.pull"
	// maxWait bounds a long poll, whatever the client asks for.
	maxWait = 25 * time.Second
)

// pull answers a client: at once if there is news for it, else when there is, or when its patience ends. A box that does
// not lead has none, and says so by an update without a version.
func (p *Part) pull(ctx context.Context, host string, request []byte) ([]byte, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	patience := time.NewTimer(min(time.Duration(r.WaitMillis)*time.Millisecond, maxWait))
	defer patience.Stop()
	for waited := false; ; {
		p.mu.Lock()
		if p.store == nil {
			p.mu.Unlock()
			return nil, errStopped
		}
		p.heard(host, r.Have)
		if p.store.Leads() && (waited || p.store.News(r)) {
			u := p.store.Since(r)
			p.mu.Unlock()
			return u.Append(nil), nil // outside the lock: what is committed is never written again
		}
		news := p.news
		p.mu.Unlock()
		if waited {
			return Update{}.Append(nil), nil
		}
		select {
		case <-news:
		case <-patience.C:
			waited = true
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// confirm answers a datagram: it takes what the client has applied and says what is current. A client that hears
// its own version may use it for one lease more, counted from when it asked.
func (p *Part) confirm(host string, _ uint64, payload []byte) []byte {
	ack, err := ParseAck(payload)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store == nil {
		return nil
	}
	v := ack.Applied
	p.heard(host, v)
	p.clients.Told(host, ack.Outcomes)
	if !p.store.Leads() {
		return Word{}.Append(nil)
	}
	if v == p.store.Version() {
		p.clients.Granted(host, p.now())
	}
	return Word{Current: p.store.Version(), Lease: p.clients.Lease}.Append(nil)
}

// heard takes note of what a client has applied; mu is held.
func (p *Part) heard(host string, v Version) {
	wasFenced := p.store.Fenced()
	p.store.Seen(v)
	if p.store.Fenced() && !wasFenced {
		p.fencer = host
		p.o.Log.Warn("another control plane leads the groups", "host", host, "its version", v, "ours", p.store.Version())
		go p.o.Changed()
	}
	if p.clients.Applied(host, v) {
		close(p.acks)
		p.acks = make(chan struct{})
	}
}
