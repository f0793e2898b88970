package vni

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/vni/api"
)

// silent tells the story of a host that is no longer heard: its VNI goes elsewhere, it comes back, it gets the VNI
// again. Meanwhile one client follows the moves, and one goes on sending to the first attachment.
func silent(t *testing.T, silence, end func(*host), mutant uint32) error {
	w := newWorld(t, 2, 1)
	ra, rb := w.hosts[0].instance("a"), w.hosts[1].instance("b")
	w.define("h1/a", "h2/b")
	w.serve(0, Config{})
	first := w.run2(mutant)
	follows := w.stream(1, w.told)
	old := w.stream(stale, func() Location { return first })
	ra.until(t, 50)
	at := time.Now()
	silence(w.hosts[0])
	second, since := w.await("VNI at h2/b", upAt("h2/b"))
	moved := since.Sub(at)
	rb.until(t, 0)
	end(w.hosts[0])
	// It is heard again, and keeps away from what it had.
	w.eventually("h1/a healthy again", func() bool {
		return w.status()[0].Candidates[0].Eligible
	})
	if err := w.boxes[0].part.move(api.MoveRequest{ID: theVNI, Host: "h1", Instance: "a"}); err != nil {
		t.Fatal(err)
	}
	w.await("VNI at h1/a again", upAt("h1/a"))
	again := follows.Sent()
	ra.until(t, again)
	ra.until(t, again+20)
	follows.Stop()
	old.Stop()

	toB := rb.Between(1, stale-1)
	t.Logf("moved in %v; %d datagrams at b, %d stale ones at a before the move", moved, len(toB), len(ra.Between(stale, math.MaxInt64)))
	if n := len(rb.Between(stale, math.MaxInt64)); n > 0 {
		return fmt.Errorf("b accepted %d datagrams of the first attachment", n)
	}
	for _, at := range ra.Between(stale, math.MaxInt64) {
		if !at.Before(toB[0]) {
			return fmt.Errorf("a accepted a stale datagram %v after b had accepted one", at.Sub(toB[0]))
		}
	}
	if moved > maxLease+100*time.Millisecond || second.Epoch != first.Epoch+1 {
		return fmt.Errorf("%w: attached elsewhere after %v, a lease and 100 ms is the limit; from epoch %d to %d", errDisturbed, moved, first.Epoch, second.Epoch)
	}
	return nil
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(wait); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited %v for %s: %+v", wait, what, w.status())
		}
	}
}

func (h *host) kill(s syscall.Signal) {
	if err := h.agent.Process.Signal(s); err != nil {
		h.w.t.Error(err)
	}
}

func TestHostSilent(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct{ silence, end func(*host) }{
		"stopped": {func(h *host) { h.kill(syscall.SIGSTOP) }, func(h *host) { h.kill(syscall.SIGCONT) }},
		"cut off": {
			func(h *host) { h.w.control.IP("link set " + h.controlPort + " down") },
			func(h *host) { h.w.control.IP("link set " + h.controlPort + " up") },
		},
		"killed": {func(h *host) { h.kill(syscall.SIGKILL) }, func(h *host) { _ = h.agent.Wait(); h.run() }},
	} {
		t.Run(name, func(t *testing.T) {
			patiently(t, func(t *testing.T) error { return silent(t, how.silence, how.end, 0) })
		})
	}
}

// Without the lease in the program, or without the epoch, what must never be is.
func TestHostSilentCatchesMutants(t *testing.T) {
	t.Parallel()
	for name, mutant := range map[string]uint32{"lease not checked": 1, "epoch not checked": 2} {
		t.Run(name, func(t *testing.T) {
			var err error
			for n := 0; n < attempts && (err == nil || errors.Is(err, errDisturbed)); n++ {
				err = silent(t, func(h *host) { h.kill(syscall.SIGSTOP) }, func(h *host) { h.kill(syscall.SIGCONT) }, mutant)
			}
			if err == nil || errors.Is(err, errDisturbed) {
				t.Errorf("survived: %v", err)
			}
			t.Log(err)
		})
	}
}
