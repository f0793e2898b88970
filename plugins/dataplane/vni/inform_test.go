package vni

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
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
