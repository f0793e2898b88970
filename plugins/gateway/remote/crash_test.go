package remote

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/faults"
)

// crashing is a store whose caller dies at one call: that one is done or not, no later one is.
type crashing struct {
	objstore.Store
	after bool

	mu   sync.Mutex
	left int // calls until the crash
}

var errCrash = errors.New("crash")

// do lets one call pass at a time.
func (c *crashing) do(call func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left--
	switch {
	case c.left > 0:
		return call()
	case c.left == 0 && c.after:
		_ = call()
	}
	return errCrash
}

func (c *crashing) Get(ctx context.Context, key string, off, n int64) (p []byte, err error) {
	err = c.do(func() (err error) { p, err = c.Store.Get(ctx, key, off, n); return err })
	return p, err
}

func (c *crashing) Load(ctx context.Context, key string) (p []byte, etag string, err error) {
	err = c.do(func() (err error) { p, etag, err = c.Store.Load(ctx, key); return err })
	return p, etag, err
}

func (c *crashing) PutIfAbsent(ctx context.Context, key string, p []byte) (etag string, err error) {
	err = c.do(func() (err error) { etag, err = c.Store.PutIfAbsent(ctx, key, p); return err })
	return etag, err
}

func (c *crashing) PutIfMatch(ctx context.Context, key string, p []byte, etag string) (next string, err error) {
	err = c.do(func() (err error) { next, err = c.Store.PutIfMatch(ctx, key, p, etag); return err })
	return next, err
}

func (c *crashing) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	return c.do(func() error { return c.Store.List(ctx, prefix, after, fn) })
}

func (c *crashing) Delete(ctx context.Context, key string) error {
	return c.do(func() error { return c.Store.Delete(ctx, key) })
}

// crash runs a session of batches, compaction and deletion that dies at its nth call of the store, and
// then another that must find all that was committed, now and after everything has been tidied up. It reports
// whether the first one came to its end.
func crash(t *testing.T, n int, after bool, m mutant) (ended bool, err error) {
	h := newHistory(t, 11, Options{mutant: m})
	for range 6 {
		h.must(h.commit(t.Context(), 6))
	}
	h.must(h.r.Compact(t.Context()), h.commit(t.Context(), 6))
	h.open()
	h.r.o.Store = &crashing{Store: h.store, left: n, after: after}
	before := maps.Clone(h.model)
	died := func() error {
		for range 2 {
			if err := h.commit(t.Context(), 6); err != nil {
				return err
			}
			before = maps.Clone(h.model)
		}
		if err := h.r.Compact(t.Context()); err != nil {
			return err
		}
		h.clock = h.clock.Add(2 * time.Minute)
		return h.tidy(t.Context())
	}()
	if died != nil && !errors.Is(died, errCrash) {
		return false, died
	}
	h.model = before

	// The batch that was being committed may have come through; what it wrote is then the model.
	head, _, err := New(h.opts).loadHead(t.Context())
	if err != nil {
		return false, err
	}
	if head.Seq == h.seq+1 {
		h.seq++
		h.model = nil
	}
	if err := h.tryOpen(); err != nil {
		return false, err
	}
	check := func() error {
		if h.model == nil {
			return h.readable()
		}
		return h.check()
	}
	if err := check(); err != nil {
		return false, err
	}
	if err := h.r.Compact(t.Context()); err != nil {
		return false, err
	}
	h.clock = h.clock.Add(2 * time.Minute)
	if err := h.tidy(t.Context()); err != nil {
		return false, err
	}
	if err := h.tryOpen(); err != nil {
		return false, err
	}
	return died == nil, check()
}

// readable reads every cell without a model.
func (h *history) readable() error {
	for cell := range h.cells {
		if _, _, _, err := h.r.Cell(h.t.Context(), cell); err != nil {
			return err
		}
	}
	return nil
}

// TestCrashAtEveryCall stops the gateway at each call of the store in turn, before and after the call is done.
func TestCrashAtEveryCall(t *testing.T) {
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			ended, err := crash(t, n, after, 0)
			if err != nil {
				t.Fatalf("crash at call %d, done %v: %v", n, after, err)
			}
			if ended {
				if n < 40 {
					t.Errorf("the session took only %d calls", n)
				}
				break
			}
		}
	}
}

// TestCrashCatchesMutant lets a gateway delete before its head is committed; a crash must show it.
func TestCrashCatchesMutant(t *testing.T) {
	for n := 1; ; n++ {
		ended, err := crash(t, n, false, mutantEarly)
		if err != nil {
			return
		}
		if ended {
			t.Fatal("no crash shows that objects were deleted before a head without them was there")
		}
	}
}

// slowReader looks cells up, lets compaction and tidying pass, and fetches afterwards.
func slowReader(t *testing.T, m mutant) error {
	h := newHistory(t, 12, Options{mutant: m})
	for range 10 {
		h.must(h.commit(t.Context(), 6))
	}
	found := map[uint64][]piece{}
	for cell := range h.cells {
		list, _, err := h.r.look(t.Context(), cell)
		h.must(err)
		found[cell] = list
	}
	h.must(h.r.Compact(t.Context()), h.tidy(t.Context()))
	for cell, list := range found {
		data, mask, err := h.r.fetch(t.Context(), cell, list)
		if err != nil {
			return err
		}
		h.must(h.compare(cell, data, mask))
	}
	return nil
}

func TestReadersOutliveCompaction(t *testing.T) {
	if err := slowReader(t, 0); err != nil {
		t.Error(err)
	}
	if err := slowReader(t, mutantNoGrace); !errors.Is(err, ErrCorrupt) {
		t.Errorf("no grace: %v, want ErrCorrupt", err)
	}
}

// fenced lets another gateway take the volume over while this one has graves to empty. It returns what this one
// deleted and what it said.
func fenced(t *testing.T, m mutant) (deleted int, err error) {
	h := newHistory(t, 13, Options{mutant: m})
	for range 10 {
		h.must(h.commit(t.Context(), 6))
	}
	h.must(h.r.Compact(t.Context()))
	h.clock = h.clock.Add(2 * time.Minute)
	other := h.opts
	other.Owner = "them"
	if _, err := New(other).Takeover(t.Context(), Local{}); err != nil {
		t.Fatal(err)
	}
	before := h.store.Calls(faults.Delete)
	_, err = h.r.collect(t.Context())
	return h.store.Calls(faults.Delete) - before, err
}

func TestFencedGatewayDeletesNothing(t *testing.T) {
	if n, err := fenced(t, 0); n != 0 || !errors.Is(err, ErrFenced) {
		t.Errorf("%d objects deleted, %v", n, err)
	}
	if n, _ := fenced(t, mutantNoRecheck); n == 0 {
		t.Error("no look at the head before deleting, and nothing shows it")
	}
}

// TestTwoGateways lets two write in turn: the older one is told, its data stays, and the store follows the newer.
func TestTwoGateways(t *testing.T) {
	h := newHistory(t, 14, Options{})
	h.must(h.commit(t.Context(), 6))
	older := h.r
	h.opts.Owner = "them"
	h.r = nil
	h.open()
	h.must(h.commit(t.Context(), 6))
	newer := h.r
	h.r = older
	model := maps.Clone(h.model)
	for range 3 {
		if err := h.commit(t.Context(), 6); !errors.Is(err, ErrFenced) {
			t.Fatalf("commit of the older: %v", err)
		}
		if _, err := h.r.fold(t.Context()); err != nil {
			t.Fatalf("nothing to fold: %v", err)
		}
		if err := h.r.compact(t.Context(), job{}); !errors.Is(err, ErrFenced) {
			t.Fatalf("compaction of the older: %v", err)
		}
	}
	h.r, h.model = newer, model
	h.must(h.check(), h.commit(t.Context(), 6), h.check())
}

// TestForeignOwner serves no chunk that the manifest says to be another account's.
func TestForeignOwner(t *testing.T) {
	h := newHistory(t, 15, Options{Account: 7})
	h.must(h.commit(t.Context(), 6), h.r.Compact(t.Context()))
	h.open()
	h.must(h.check())
	h.r.o.Account = 8 // as if the manifest had been put together from several
	if err := h.check(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cell of another account: %v", err)
	}
	h.opts.Account = 9
	if _, err := New(h.opts).Takeover(t.Context(), Local{}); !errors.Is(err, ErrDiverged) {
		t.Errorf("takeover of another account's volume: %v", err)
	}
}

// TestStaleLists lets lists lag behind: what is missing from one must not be missed by the volume, and what is
// in one though it is gone must do no harm.
func TestStaleLists(t *testing.T) {
	h := newHistory(t, 16, Options{})
	for range 3 {
		h.must(h.commit(t.Context(), 6), h.r.Compact(t.Context()))
	}
	h.opts.Store = stale{h.store}
	h.open()
	for range 3 {
		h.must(h.tidy(t.Context()))
		h.clock = h.clock.Add(2 * time.Minute)
	}
	h.must(h.check(), h.commit(t.Context(), 6), h.r.Compact(t.Context()), h.check())
}

// stale lists every other object, and one that nobody has put.
type stale struct{ objstore.Store }

func (s stale) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	n := 0
	err := s.Store.List(ctx, prefix, after, func(i objstore.Info) error {
		if n++; n%2 == 0 {
			return nil
		}
		return fn(i)
	})
	if err != nil || prefix != "v/data/" {
		return err
	}
	return fn(objstore.Info{Key: "v/" + manifest.ID{Kind: manifest.KindData, Epoch: 0, Number: 99}.String()})
}

// TestFaults runs a history on a store that loses calls and answers all the time.
func TestFaults(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := newHistory(t, seed, Options{})
			h.store = faults.New(h.store, faults.Options{Seed: seed, ErrorRate: 0.1, LostRate: 0.1})
			h.r.o.Store, h.opts.Store = h.store, h.store
			h.r.o.FirstPause, h.r.breaker.first = time.Microsecond, time.Microsecond
			for range 60 {
				h.must(h.commit(t.Context(), 5))
				if h.rng.IntN(6) == 0 {
					h.must(h.r.Compact(t.Context()))
				}
				if h.rng.IntN(6) == 0 {
					h.clock = h.clock.Add(2 * time.Minute)
					h.must(h.tidy(t.Context()))
				}
			}
			h.must(h.check())
		})
	}
}
