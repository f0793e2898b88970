package limit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/limit"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

func TestConformance(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) func(*testing.T) objstore.Store {
		m := objstoretest.NewMemory()
		return func(*testing.T) objstore.Store { return limit.New(m, limit.Options{Calls: 2, Bytes: 1 << 20}) }
	})
}

// counted holds deletes back until it is released and remembers how many were inside.
type counted struct {
	objstore.Store
	inside, most atomic.Int32
	entered      chan struct{}
	release      chan struct{}
}

func (c *counted) Delete(context.Context, string) error {
	n := c.inside.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	c.entered <- struct{}{}
	<-c.release
	c.inside.Add(-1)
	return nil
}

func TestCallsAreBounded(t *testing.T) {
	c := &counted{entered: make(chan struct{}, 10), release: make(chan struct{})}
	s := limit.New(c, limit.Options{Calls: 3})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { s.Delete(context.Background(), "k") })
	}
	for range 3 {
		<-c.entered
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Delete(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("call without room: %v", err)
	}
	close(c.release)
	wg.Wait()
	if m := c.most.Load(); m != 3 {
		t.Errorf("%d calls at once, want 3", m)
	}
}
