// Package faults wraps a store so that its calls fail in chosen ways, for tests of what uses
// stores and for fault drills on a box.
//
// The dangerous failure is the lost reply: the put has happened, the caller is told
// ErrUnavailable. Fault.After makes it.
package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Op names a method of objstore.Store.
type Op string

// The methods that can fail.
const (
	Get         Op = "get"
	Load        Op = "load"
	Head        Op = "head"
	PutIfAbsent Op = "put-if-absent"
	PutIfMatch  Op = "put-if-match"
	List        Op = "list"
	Delete      Op = "delete"
)

// Fault is what happens to one call.
type Fault struct {
	Latency time.Duration // before the call, ended by ctx
	Err     error         // returned instead of the outcome; nil lets the call through
	After   bool          // the call is done before Err is returned: its reply is lost
}

// Options make random faults from a seed, so that a failing run can be repeated as far as the
// calls come in the same order.
type Options struct {
	Seed       uint64
	ErrorRate  float64       // share of calls that fail before they are done
	LostRate   float64       // share of calls whose reply is lost
	MaxLatency time.Duration // uniform from 0
}

// Store is a store with faults. Without any it passes every call on.
type Store struct {
	objstore.Store
	opts Options

	mu      sync.Mutex
	rng     *rand.Rand
	outage  error
	latency time.Duration
	plans   []plan
	calls   map[Op]int
}

type plan struct {
	op     Op
	prefix string
	left   int
	fault  Fault
}

var _ objstore.Store = (*Store)(nil)

// New wraps s.
func New(s objstore.Store, o Options) *Store {
	return &Store{Store: s, opts: o, rng: rand.New(rand.NewPCG(o.Seed, 1)), calls: make(map[Op]int)}
}

// Outage makes every call fail at once with an error that wraps ErrUnavailable, until called
// with false. Calls under way are not touched.
func (s *Store) Outage(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outage = nil
	if on {
		s.outage = fmt.Errorf("%w: outage", objstore.ErrUnavailable)
	}
}

// Latency adds d before every call from now on.
func (s *Store) Latency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency = d
}

// Inject plans f for the next n calls of op whose key or prefix starts with prefix. Plans are
// used up in the order in which they were made.
func (s *Store) Inject(op Op, prefix string, n int, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = append(s.plans, plan{op, prefix, n, f})
}

// Calls is how often op was called, whatever became of it.
func (s *Store) Calls(op Op) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// next decides what happens to a call.
func (s *Store) next(op Op, key string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
	for i := range s.plans {
		p := &s.plans[i]
		if p.op == op && strings.HasPrefix(key, p.prefix) {
			f := p.fault
			if p.left--; p.left == 0 {
				s.plans = append(s.plans[:i], s.plans[i+1:]...)
			}
			return f
		}
	}
	f := Fault{Latency: s.latency, Err: s.outage}
	if s.opts.MaxLatency > 0 {
		f.Latency += time.Duration(s.rng.Int64N(int64(s.opts.MaxLatency)))
	}
	if f.Err == nil {
		switch r := s.rng.Float64(); {
		case r < s.opts.ErrorRate:
			f.Err = fmt.Errorf("%w: injected error", objstore.ErrUnavailable)
		case r < s.opts.ErrorRate+s.opts.LostRate:
			f.Err, f.After = fmt.Errorf("%w: injected loss of the reply", objstore.ErrUnavailable), true
		}
	}
	return f
}

// do carries out one call under the fault that is due.
func (s *Store) do(ctx context.Context, op Op, key string, call func() error) error {
	f := s.next(op, key)
	if f.Latency > 0 {
		t := time.NewTimer(f.Latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return fmt.Errorf("%s %s: %w", op, key, ctx.Err())
		}
	}
	if f.Err != nil && !f.After {
		return fmt.Errorf("%s %s: %w", op, key, f.Err)
	}
	err := call()
	if f.Err != nil { // whatever came of it, the caller does not learn
		return fmt.Errorf("%s %s: %w", op, key, f.Err)
	}
	return err
}

// Get implements objstore.Store.
func (s *Store) Get(ctx context.Context, key string, off, n int64) (data []byte, err error) {
	err = s.do(ctx, Get, key, func() (err error) { data, err = s.Store.Get(ctx, key, off, n); return err })
	return data, err
}

// Load implements objstore.Store.
func (s *Store) Load(ctx context.Context, key string) (data []byte, etag string, err error) {
	err = s.do(ctx, Load, key, func() (err error) { data, etag, err = s.Store.Load(ctx, key); return err })
	return data, etag, err
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (info objstore.Info, err error) {
	err = s.do(ctx, Head, key, func() (err error) { info, err = s.Store.Head(ctx, key); return err })
	return info, err
}

// PutIfAbsent implements objstore.Store.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) (etag string, err error) {
	err = s.do(ctx, PutIfAbsent, key, func() (err error) { etag, err = s.Store.PutIfAbsent(ctx, key, data); return err })
	return etag, err
}

// PutIfMatch implements objstore.Store.
func (s *Store) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (next string, err error) {
	err = s.do(ctx, PutIfMatch, key, func() (err error) { next, err = s.Store.PutIfMatch(ctx, key, data, etag); return err })
	return next, err
}

// List implements objstore.Store.
func (s *Store) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	return s.do(ctx, List, prefix, func() error { return s.Store.List(ctx, prefix, after, fn) })
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	return s.do(ctx, Delete, key, func() error { return s.Store.Delete(ctx, key) })
}

// Probe implements objstore.Store: it probes through the faults.
func (s *Store) Probe(ctx context.Context) error { return objstore.ProbeConditional(ctx, s) }
