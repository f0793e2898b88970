package remote

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// breaking is a store whose lists break off after so many keys. It counts what it has listed.
type breaking struct {
	objstore.Store
	every, listed int
}

func (s *breaking) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	n := 0
	return s.Store.List(ctx, prefix, after, func(i objstore.Info) error {
		if n++; n > s.every {
			return fmt.Errorf("cut off: %w", objstore.ErrUnavailable)
		}
		s.listed++
		return fn(i)
	})
}

// TestSweepOfManyObjects restarts a gateway whose volume has more objects than can be listed in one go: each piece of
// housekeeping lists a bounded number, no list starts over, and no orphan stays.
func TestSweepOfManyObjects(t *testing.T) {
	h := newHistory(t, 17, Options{})
	h.must(h.commit(t.Context(), 4))
	const orphans = 2*pageKeys*sweepPages + 1
	for n := range uint64(orphans) {
		id := manifest.ID{Kind: manifest.KindData, Epoch: 1, Number: 1000 + n}
		_, err := h.store.PutIfAbsent(t.Context(), h.r.key(id), nil)
		h.must(err)
	}
	s := &breaking{Store: h.store, every: 700}
	h.opts.Store, h.opts.FirstPause = s, time.Microsecond
	h.open()
	before, _ := h.objects()
	for more, begun := true, 0; more; begun = s.listed {
		var err error
		more, err = h.r.Tidy(t.Context())
		h.must(err)
		if n := s.listed - begun; n > pageKeys*sweepPages+len(manifest.Kinds()) {
			t.Fatalf("one piece of housekeeping listed %d keys", n)
		}
	}
	if s.listed > before+100 {
		t.Errorf("%d keys listed for %d objects", s.listed, before)
	}
	h.clock = h.clock.Add(2 * time.Minute)
	h.must(h.tidy(t.Context()), h.check())
	if n, _ := h.objects(); n > 20 {
		t.Errorf("%d objects are left", n)
	}
}
