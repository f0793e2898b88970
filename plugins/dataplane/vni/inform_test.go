package vni

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// slowDisk is a State whose writes wait while there is something in held.
type slowDisk struct {
	State
	held atomic.Pointer[chan struct{}]
}

func (s *slowDisk) Put(ctx context.Context, key string, value []byte) error {
	if held := s.held.Load(); held != nil {
		select {
		case <-*held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.State.Put(ctx, key, value)
}

// Groups do not hear that a VNI is down for a moment. They hear it when nobody else can have the VNI, or the next
// attachment takes long.
func TestGroupsHear(t *testing.T) {
	t.Parallel()
	up, down := "up at h2/b", "down"
	for name, c := range map[string]struct {
		candidates []string
		slow       bool
		want       []string
	}{
		"attached elsewhere at once": {[]string{"h1/a", "h2/b"}, false, []string{up}},
		"disk takes long":            {[]string{"h1/a", "h2/b"}, true, []string{down, up}},
		"nobody stands by":           {[]string{"h1/a"}, false, []string{down}},
	} {
		t.Run(name, func(t *testing.T) {
			patiently(t, func(t *testing.T) error {
				w := newWorld(t, 2, 1)
				disk := &slowDisk{State: w.boxes[0].state}
				w.boxes[0].state = disk
				holder := w.hosts[0].instance("a")
				w.hosts[1].instance("b")
				w.define(c.candidates...)
				w.serve(0, Config{})
				w.run2()
				held := make(chan struct{})
				if c.slow {
					disk.held.Store(&held)
				}
				before := len(w.changes())
				holder.holder.Kill()
				if c.want[0] == down {
					w.await("VNI down", func(l Location) bool { return !l.Up })
				}
				disk.held.Store(nil)
				close(held)
				if slices.Contains(c.want, up) {
					w.await("VNI at h2/b", upAt("h2/b"))
				}
				if got := w.changes()[before:]; !slices.Equal(got, c.want) {
					return fmt.Errorf("%w: groups heard %q, want %q", errDisturbed, got, c.want)
				}
				return nil
			})
		})
	}
}

// A second that passes while groups are busy with a new place does not bring them back to the one before.
func TestGroupsHearNoOlderPlace(t *testing.T) {
	t.Parallel()
	heard := make(chan Location)
	var p *Part
	p = New(Options{State: controltest.NewMemoryState(), Moved: func(ctx context.Context, l Location) error {
		p.everySecond()
		select {
		case heard <- l:
		case <-ctx.Done():
		}
		return nil
	}})
	if err := p.Start(t.Context(), Desired{}); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	move := func(epoch uint64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tell[1] = Location{Interface: failover.Interface{ID: 1}, Epoch: epoch, Up: true}
		nudge(p.news)
	}
	move(1)
	<-heard
	move(2)
	for (<-heard).Epoch != 2 {
	}
	for range 3 {
		if l := <-heard; l.Epoch != 2 {
			t.Fatalf("groups heard epoch %d after epoch 2", l.Epoch)
		}
	}
}

// Groups that refuse to hear where VNIs are, as those that another box leads, fill no log.
func TestGroupsRefuse(t *testing.T) {
	t.Parallel()
	log, asked := &lines{}, make(chan struct{})
	p := New(Options{State: controltest.NewMemoryState(), Log: slog.New(slog.NewTextHandler(log, nil)), Moved: func(ctx context.Context, l Location) error {
		select {
		case asked <- struct{}{}:
		case <-ctx.Done():
		}
		if l.Epoch == 2 {
			return errors.New("the disk is full")
		}
		return errors.New("another control plane leads the groups")
	}})
	if err := p.Start(t.Context(), Desired{}); err != nil {
		t.Fatal(err)
	}
	for epoch, times := range map[uint64]int{1: 5, 2: 5} {
		for range times {
			p.mu.Lock()
			p.tell[1] = Location{Interface: failover.Interface{ID: 1}, Epoch: epoch, Up: true}
			nudge(p.news)
			p.mu.Unlock()
			<-asked
		}
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := log.n.Load(); n != 2 {
		t.Errorf("%d lines in the log for two reasons", n)
	}
}

// lines counts what is written.
type lines struct{ n atomic.Int32 }

func (l *lines) Write(b []byte) (int, error) {
	l.n.Add(1)
	return len(b), nil
}

// changes is what the groups were told of the VNI.
func (w *world) changes() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.heard {
		if l.Up {
			out = append(out, "up at "+l.Holder.String())
		} else {
			out = append(out, "down")
		}
	}
	return out
}
