package faults_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/faults"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/objstoretest"
)

func TestWithoutFaultsItIsTheStore(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) func(*testing.T) objstore.Store {
		m := objstoretest.NewMemory()
		return func(*testing.T) objstore.Store { return faults.New(m, faults.Options{}) }
	})
}

func TestLostReply(t *testing.T) {
	s := faults.New(objstoretest.NewMemory(), faults.Options{})
	lost := faults.Fault{Err: objstore.ErrUnavailable, After: true}
	s.Inject(faults.PutIfAbsent, "head", 1, lost)
	if _, err := s.PutIfAbsent(t.Context(), "other", nil); err != nil {
		t.Fatalf("put that was not meant: %v", err)
	}
	if _, err := s.PutIfAbsent(t.Context(), "head", []byte("x")); !errors.Is(err, objstore.ErrUnavailable) {
		t.Fatalf("put: %v, want ErrUnavailable", err)
	}
	if _, err := s.PutIfAbsent(t.Context(), "head", []byte("x")); !errors.Is(err, objstore.ErrExists) {
		t.Fatalf("repeated put: %v, want ErrExists: the first one happened", err)
	}
	if n := s.Calls(faults.PutIfAbsent); n != 3 {
		t.Errorf("%d calls counted, want 3", n)
	}
}

func TestOutageAndLatency(t *testing.T) {
	s := faults.New(objstoretest.NewMemory(), faults.Options{})
	s.Outage(true)
	if err := s.Probe(t.Context()); !errors.Is(err, objstore.ErrUnavailable) {
		t.Errorf("probe in an outage: %v", err)
	}
	s.Outage(false)
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("probe after it: %v", err)
	}
	s.Latency(time.Hour)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Delete(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delete: %v, want the end of its context", err)
	}
}

func TestRandomFaultsAreFoundAndRepeatable(t *testing.T) {
	run := func() (out []bool) {
		s := faults.New(objstoretest.NewMemory(), faults.Options{Seed: 7, ErrorRate: 0.2, LostRate: 0.2})
		for range 100 {
			_, err := s.PutIfAbsent(t.Context(), "k", nil)
			out = append(out, errors.Is(err, objstore.ErrUnavailable))
		}
		return out
	}
	a, b := run(), run()
	failed := 0
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("call %d differs between two runs of one seed", i)
		}
		if a[i] {
			failed++
		}
	}
	if failed < 20 || failed > 60 {
		t.Errorf("%d of 100 calls failed, want about 40", failed)
	}
}
