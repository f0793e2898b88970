package nettest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Stream is numbered datagrams, one a millisecond.
type Stream struct {
	sent atomic.Uint64
	stop func()
}

// Stream calls send with first, first+1 and so on, one number a millisecond, on a thread in the namespace until Stop or
// the end of the test.
func (n *Namespace) Stream(first uint64, send func(seq uint64)) *Stream {
	n.t.Helper()
	s := &Stream{}
	s.sent.Store(first - 1)
	s.stop = n.Go(func(ctx context.Context) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for seq := first; ctx.Err() == nil; seq++ {
			<-tick.C
			s.sent.Store(seq)
			send(seq)
		}
	})
	return s
}

// Sent is the last number that send was called with.
func (s *Stream) Sent() uint64 { return s.sent.Load() }

// Stop ends the stream; when it returns send is not called any more.
func (s *Stream) Stop() { s.stop() }

// Receiver is what somebody got of streams: numbers, and when.
type Receiver struct {
	name string

	mu    sync.Mutex
	at    map[uint64]time.Time
	order []uint64      // as they came
	news  chan struct{} // closed and replaced when one comes
}

// NewReceiver makes one that has got nothing; the name is for failures.
func NewReceiver(name string) *Receiver {
	return &Receiver{name: name, at: map[uint64]time.Time{}, news: make(chan struct{})}
}

// Got takes a datagram.
func (r *Receiver) Got(seq uint64, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at[seq] = at
	r.order = append(r.order, seq)
	close(r.news)
	r.news = make(chan struct{})
}

// Await waits until one of the datagrams from first to last has come.
func (r *Receiver) Await(t testing.TB, limit time.Duration, first, last uint64) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for seen := 0; ; {
		r.mu.Lock()
		news, come := r.news, r.order[seen:]
		seen = len(r.order)
		r.mu.Unlock()
		if slices.ContainsFunc(come, func(seq uint64) bool { return seq >= first && seq <= last }) {
			return
		}
		select {
		case <-news:
		case <-deadline.C:
			t.Fatalf("waited %v for %s to get one of the datagrams %d to %d; it has got %d others", limit, r.name, first, last, seen)
		}
	}
}

// Between returns when the datagrams from first to last came, the earliest first.
func (r *Receiver) Between(first, last uint64) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []time.Time
	for seq, at := range r.at {
		if seq >= first && seq <= last {
			out = append(out, at)
		}
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

// Lost counts the datagrams from first to last that none of the receivers got.
func Lost(first, last uint64, by ...*Receiver) (n int) {
	for seq := first; seq <= last; seq++ {
		if !slices.ContainsFunc(by, func(r *Receiver) bool { return r.got(seq) }) {
			n++
		}
	}
	return n
}

func (r *Receiver) got(seq uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, here := r.at[seq]
	return here
}
