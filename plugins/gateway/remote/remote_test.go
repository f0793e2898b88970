package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/dir"
)

const testSize = 1 << 20

func testStore(t *testing.T) objstore.Store {
	t.Helper()
	s, err := dir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func attach(t *testing.T, s objstore.Store, owner string, l Local) *Remote {
	t.Helper()
	r := New(Options{Store: s, Volume: "v", Size: testSize, Owner: owner, FirstPause: time.Millisecond})
	if _, err := r.Takeover(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// batch writes one block of each of the given cells.
func batch(t testing.TB, r *Remote, seq uint64, fill byte, cells ...uint64) *Batch {
	t.Helper()
	b := &Batch{Seq: seq, Object: r.NewObject()}
	for _, c := range cells {
		f, err := b.Object.Add(c, 1, bytes.Repeat([]byte{fill}, manifest.BlockSize))
		if err != nil {
			t.Fatal(err)
		}
		b.Frames = append(b.Frames, f)
	}
	return b
}

// TestDeltas commits far more batches than a head may name and reads them back from another session.
func TestDeltas(t *testing.T) {
	s := testStore(t)
	r := attach(t, s, "us", Local{})
	const n = manifest.MaxDeltas + 5
	for seq := uint64(1); seq <= n; seq++ {
		if err := r.Commit(t.Context(), batch(t, r, seq, byte(seq), seq%16)); err != nil {
			t.Fatal(err)
		}
	}
	h := r.Head()
	if h.Root == "" || len(h.Deltas) > manifest.MaxDeltas || h.Seq != n {
		t.Errorf("head: seq %d, root %q, %d deltas", h.Seq, h.Root, len(h.Deltas))
	}
	again := attach(t, s, "us", Local{Attached: true, Epoch: h.Epoch, Confirmed: n, Durable: n})
	for cell := range uint64(16) {
		data, mask, generation, err := again.Cell(t.Context(), cell)
		if err != nil {
			t.Fatal(err)
		}
		want := byte(0)
		for seq := uint64(1); seq <= n; seq++ {
			if seq%16 == cell {
				want = byte(seq)
			}
		}
		if mask != 1 || data[0] != want || data[manifest.BlockSize] != 0 || generation != again.Generation(cell) {
			t.Errorf("cell %d: mask %#x, data %d, want %d", cell, mask, data[0], want)
		}
	}
	if err := r.Commit(t.Context(), batch(t, r, n+1, 1, 1)); !errors.Is(err, ErrFenced) {
		t.Errorf("commit of the session before: %v", err)
	}
}

// TestDamage changes objects behind the head's back; nothing of it may be served.
func TestDamage(t *testing.T) {
	flip := func(p []byte) []byte { p[0] ^= 1; return p }
	for _, tc := range []struct {
		kind   manifest.Kind
		name   string
		damage func([]byte) []byte
	}{
		{manifest.KindData, "changed", flip},
		{manifest.KindData, "cut", func(p []byte) []byte { return p[:3] }},
		{manifest.KindData, "gone", nil},
		{manifest.KindDelta, "changed", flip},
		{manifest.KindDelta, "gone", nil},
		{manifest.KindLeaf, "changed", flip},
		{manifest.KindLeaf, "gone", nil},
		{manifest.KindPart, "changed", flip},
		{manifest.KindPart, "gone", nil},
		{manifest.KindRoot, "changed", flip},
		{manifest.KindRoot, "gone", nil},
	} {
		t.Run(fmt.Sprint(tc.kind, tc.name), func(t *testing.T) {
			s := testStore(t)
			r := attach(t, s, "us", Local{})
			for seq := range uint64(3) {
				if err := r.Commit(t.Context(), batch(t, r, seq+1, 7, 3)); err != nil {
					t.Fatal(err)
				}
				if seq == 1 {
					if err := r.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := r.Commit(t.Context(), batch(t, r, 4, 7, 4)); err != nil {
				t.Fatal(err)
			}
			var keys []string
			_ = s.List(t.Context(), "v/"+tc.kind.String()+"/", "", func(i objstore.Info) error { keys = append(keys, i.Key); return nil })
			for _, key := range keys {
				p, err := s.Get(t.Context(), key, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				if tc.damage != nil {
					if _, err := s.PutIfAbsent(t.Context(), key, tc.damage(p)); err != nil {
						t.Fatal(err)
					}
				}
			}
			again := New(Options{Store: s, Volume: "v", Size: testSize, Owner: "us"})
			if _, err := again.Takeover(t.Context(), Local{}); err != nil {
				t.Fatal(err)
			}
			err := again.Load(t.Context())
			for _, cell := range []uint64{3, 4} {
				if err == nil {
					_, _, _, err = again.Cell(t.Context(), cell)
				}
			}
			// Cell 3 lies over its leaf whole, as far as it was written; cell 4 needs no leaf that is there.
			if err == nil && tc.kind == manifest.KindLeaf {
				err = again.Compact(t.Context())
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
	}
}

// TestBreaker sees one caller try while the others wait, and all go on when the store is back.
func TestBreaker(t *testing.T) {
	b := breaker{first: time.Millisecond}
	down := true
	tries := 0
	fn := func(context.Context) error {
		tries++
		if down {
			return objstore.ErrUnavailable
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.retry(ctx, fn); !errors.Is(err, objstore.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("end of ctx with the store down: %v", err)
	}
	if h := b.health(); !h.Down || h.Since.IsZero() || h.Err == nil {
		t.Errorf("health: %+v", h)
	}
	// Pauses double from 1 ms, so 50 ms hold at most about eight tries.
	if tries < 2 || tries > 12 {
		t.Errorf("%d tries in 50 ms", tries)
	}
	down = false
	if err := b.retry(t.Context(), fn); err != nil {
		t.Error(err)
	}
	if h := b.health(); h.Down {
		t.Errorf("health after recovery: %+v", h)
	}
	fatal := errors.New("access denied")
	if err := b.retry(t.Context(), func(context.Context) error { return fatal }); !errors.Is(err, fatal) {
		t.Errorf("an error that retrying does not help: %v", err)
	}
}

// TestBreakerAfterProbe: who waits for the outcome of a probe goes on after the pause that its failure brings, also when the
// one who tried has gone.
func TestBreakerAfterProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := breaker{first: 100 * time.Millisecond}
		fail := func(d time.Duration) func(context.Context) error {
			return func(context.Context) error { time.Sleep(d); return objstore.ErrUnavailable }
		}
		_ = b.try(t.Context(), fail(0))
		go func() {
			if b.wait(t.Context()) == nil {
				_ = b.try(t.Context(), fail(time.Second)) // the probe, once
			}
		}()
		time.Sleep(500 * time.Millisecond)
		start := time.Now()
		if err := b.retry(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the next try came after %s", took)
		}
	})
}
