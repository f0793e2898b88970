package attach

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// disk is a volume that knows whose it is and complains of writes by another.
type disk struct {
	mu     sync.Mutex
	epoch  uint64
	writer Writer

	dirty, durable atomic.Int64 // writes
	flushErr       error
	keepErr        error
	strangers      atomic.Int64
	writing        atomic.Int64 // writes that have begun and not landed
}

func (d *disk) Writer() (uint64, [16]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.epoch, d.writer
}

func (d *disk) SetWriter(_ context.Context, epoch uint64, w [16]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.keepErr != nil {
		return d.keepErr
	}
	if epoch < d.epoch {
		return fmt.Errorf("epoch %d after %d", epoch, d.epoch)
	}
	if w != Everyone && d.durable.Load() != d.dirty.Load() {
		d.strangers.Add(1) // what FROM wrote is not all durable, and FROM can no longer ask for it
	}
	d.epoch, d.writer = epoch, w
	return nil
}

func (d *disk) Flush(context.Context) error {
	d.durable.Store(d.dirty.Load())
	return d.flushErr
}

// write takes a while, as writes do, and lands at its end.
func (d *disk) write(by Writer) {
	d.writing.Add(1)
	defer d.writing.Add(-1)
	for range 4 {
		runtime.Gosched()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.epoch > 0 && d.writer != Everyone && d.writer != by {
		d.strangers.Add(1)
	}
	d.dirty.Add(1)
}

// race lets two identities write as fast as they can while the volume goes to and fro between them, and returns how
// many writes landed that were not the writer's, and epochs were written by two.
func race(t *testing.T, skipDrain bool) int64 {
	d := new(disk)
	g := NewGate(d)
	g.skipDrain = skipDrain
	if _, err := g.Handover(t.Context(), "nobody", "a"); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var succeeded [2]atomic.Int64
	for i, id := range []string{"a", "b", "a", "b"} {
		s := g.Enter(id, func() {})
		wg.Go(func() {
			defer s.Close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := s.Begin(); {
				case err == nil:
					d.write(s.writer)
					s.End()
					succeeded[i%2].Add(1)
				case !errors.Is(err, ErrHandedOver) && !errors.Is(err, ErrNotWriter):
					t.Error(err)
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	from, to := "a", "b"
	const rounds = 300
	for i := range uint64(rounds) {
		// Every handover meets a write in flight, and the next one waits until a write has landed after it.
		for d.writing.Load() == 0 {
			runtime.Gosched()
		}
		epoch, err := g.Handover(t.Context(), from, to)
		if err != nil || epoch != i+2 {
			t.Fatalf("handover %d: epoch %d, %v", i, epoch, err)
		}
		for landed := d.dirty.Load(); d.dirty.Load() == landed; {
			runtime.Gosched()
		}
		from, to = to, from
	}
	close(stop)
	wg.Wait()
	n := d.strangers.Load()
	for _, term := range g.Terms() {
		if len(term.Writes) > 1 {
			t.Logf("epoch %d was written by %v", term.Epoch, term.Writes)
			n++
		}
	}
	return n
}

// TestTwoWritersNeverBothSucceed is S15.
func TestTwoWritersNeverBothSucceed(t *testing.T) {
	if n := race(t, false); n != 0 {
		t.Errorf("%d writes landed after the volume was another's", n)
	}
}

// TestMutantWithoutDrainIsCaught shows that the test above can fail: a handover that does not wait for writes in flight.
func TestMutantWithoutDrainIsCaught(t *testing.T) {
	for range 20 {
		if race(t, true) > 0 {
			return
		}
	}
	t.Error("a handover that does not wait for writes in flight was never caught")
}

// TestHandoverWaitsForWritesInFlight holds a write back and sees the handover wait for it.
func TestHandoverWaitsForWritesInFlight(t *testing.T) {
	d := new(disk)
	g := NewGate(d)
	a, b := g.Enter("a", func() {}), g.Enter("b", func() {})
	defer a.Close()
	defer b.Close()
	must(t, a.Begin())
	done := make(chan error, 1)
	go func() {
		_, err := g.Handover(t.Context(), "a", "b")
		done <- err
	}()
	// FROM is out before its last write has ended.
	for a.Begin() == nil {
		a.End()
		runtime.Gosched()
	}
	if err := b.Begin(); !errors.Is(err, ErrNotWriter) {
		t.Errorf("TO before the handover is done: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("the handover did not wait: %v", err)
	default:
	}
	d.write(a.writer)
	a.End()
	must(t, <-done)
	must(t, b.Begin())
	b.End()
	if err := a.Begin(); !errors.Is(err, ErrHandedOver) {
		t.Errorf("FROM after the handover: %v", err)
	}
	if d.durable.Load() != 1 {
		t.Error("what FROM wrote was not flushed")
	}
	terms := g.Terms()
	if len(terms) != 2 || terms[0].Writes["a"] == 0 || !reflect.DeepEqual(terms[1].Writes, map[string]uint64{"b": 1}) || terms[1].Refused["a"] != 1 {
		t.Errorf("terms: %+v", terms)
	}
}

// TestHandoverGivesUpWithItsCaller: a write that never ends keeps the volume where it is.
func TestHandoverGivesUpWithItsCaller(t *testing.T) {
	g := NewGate(new(disk))
	a := g.Enter("a", func() {})
	must(t, a.Begin())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := g.Handover(ctx, "a", "b")
		done <- err
	}()
	for a.Begin() == nil {
		a.End()
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("handover: %v", err)
	}
	must(t, a.Begin())
	a.End()
	a.End()
	a.Close()
	// A connection that ended with nothing in flight is nobody to wait for.
	if _, err := g.Handover(t.Context(), "a", "b"); err != nil {
		t.Error(err)
	}
}

// TestRestart takes up the writer that the disk names.
func TestRestart(t *testing.T) {
	d := new(disk)
	if _, err := NewGate(d).Handover(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	g := NewGate(d)
	for id, want := range map[string]error{"a": ErrNotWriter, "b": nil, "": ErrNotWriter} {
		s := g.Enter(id, func() {})
		if err := s.Begin(); !errors.Is(err, want) {
			t.Errorf("%q after the restart: %v, want %v", id, err, want)
		} else if err == nil {
			s.End()
		}
		s.Close()
	}
}

// TestOpen lets everyone write again, without a pause for the writer and over a restart.
func TestOpen(t *testing.T) {
	d := new(disk)
	g := NewGate(d)
	if _, err := g.Handover(t.Context(), "x", "a"); err != nil {
		t.Fatal(err)
	}
	a, b := g.Enter("a", func() {}), g.Enter("b", func() {})
	defer a.Close()
	defer b.Close()
	must(t, a.Begin()) // is not waited for
	if err := b.Begin(); !errors.Is(err, ErrNotWriter) {
		t.Errorf("before: %v", err)
	}
	d.keepErr = errors.New("disk gone")
	if err := g.Open(t.Context()); !errors.Is(err, d.keepErr) || errors.Is(err, ErrInDoubt) {
		t.Errorf("open: %v", err)
	}
	must(t, a.Begin())
	a.End()
	if err := b.Begin(); !errors.Is(err, ErrNotWriter) {
		t.Errorf("after it failed: %v", err)
	}
	d.keepErr = nil
	for range 2 { // may be repeated
		must(t, g.Open(t.Context()))
		if epoch, writer := d.Writer(); epoch != 2 || writer != Everyone {
			t.Errorf("kept: epoch %d of %x", epoch, writer)
		}
	}
	a.End()
	for _, gate := range []*Gate{g, NewGate(d)} {
		for _, id := range []string{"a", "b", ""} {
			s := gate.Enter(id, func() {})
			must(t, s.Begin())
			s.End()
			s.Close()
		}
	}
	if epoch, err := g.Handover(t.Context(), "b", "a"); err != nil || epoch != 3 {
		t.Errorf("handed over again: epoch %d, %v", epoch, err)
	}
}

// TestFailedHandover leaves FROM with the volume when nothing was kept, and nobody when that is not known.
func TestFailedHandover(t *testing.T) {
	d := &disk{flushErr: errors.New("media error")}
	g := NewGate(d)
	a, b := g.Enter("a", func() {}), g.Enter("b", func() {})
	defer a.Close()
	defer b.Close()
	if _, err := g.Handover(t.Context(), "a", "b"); !errors.Is(err, d.flushErr) {
		t.Errorf("handover: %v", err)
	}
	must(t, a.Begin())
	a.End()
	d.flushErr, d.keepErr = nil, errors.New("disk gone")
	if _, err := g.Handover(t.Context(), "a", "b"); !errors.Is(err, ErrInDoubt) {
		t.Errorf("handover: %v", err)
	}
	if err := errors.Join(a.Begin(), b.Begin()); !errors.Is(err, ErrHandedOver) || !errors.Is(err, ErrNotWriter) {
		t.Errorf("writes while in doubt: %v", err)
	}
	d.keepErr = nil
	epoch, err := g.Handover(t.Context(), "a", "b")
	if err != nil || epoch != 1 {
		t.Errorf("repeated: epoch %d, %v", epoch, err)
	}
	must(t, b.Begin())
	b.End()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkAdmission is what a write pays.
func BenchmarkAdmission(b *testing.B) {
	s := NewGate(new(disk)).Enter("a", func() {})
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		if s.Begin() == nil {
			s.End()
		}
	}
}
