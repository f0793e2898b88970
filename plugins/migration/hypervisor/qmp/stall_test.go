package qmp_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/vmhosttest"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// stallLimit is more than what ends a stall takes, and less than what a peer may take that is not there any more.
const stallLimit = 20 * time.Second

// through leads to an address over a relay that ends with the test.
func through(t *testing.T, address string) *lab.Relay {
	t.Helper()
	r, err := lab.NewRelay(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// undo takes the move back, and sees that the VM runs where it was.
func (w *world) undo() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, stallLimit)
	defer cancel()
	if err := errors.Join(w.b.Finish(ctx, w.move, false), w.a.Confirm(ctx, w.move, false)); err != nil {
		w.Fatalf("undo: %v", err)
	}
	if s, err := w.a.Status(ctx, "vm1"); err != nil || s != hypervisor.Running {
		w.Fatalf("undone, and the VM is %s (%v)", s, err)
	}
}

// TestStalledHandshake: the agent at the source ends a handshake that stalls by itself, and says why; nobody has to ask.
func TestStalledHandshake(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	arrival := w.prepare()
	relay := through(t, arrival.Address)
	relay.StallAt(242)
	arrival.Address = relay.Address()
	x := w.perform(arrival)
	ctx, cancel := context.WithTimeout(w.ctx, stallLimit)
	defer cancel()
	if err := x.Switchover(ctx); err == nil || !strings.Contains(err.Error(), "did not finish the TLS handshake") {
		t.Errorf("the transfer ended by %v", err)
	}
	w.undo()
	w.finish(w.perform(w.prepare()))
}

// TestSilentStranger: who connects to a destination and stops within the hello keeps neither its monitor nor the source of
// the move out.
func TestSilentStranger(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	arrival := w.prepare()
	c, err := net.Dial("tcp", strings.TrimPrefix(arrival.Address, "tcp:"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// The beginning of a record with a client's hello (RFC 8446, 5.1).
	if _, err := c.Write([]byte{22, 3, 1, 2, 0, 1, 0}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.ctx, stallLimit)
	defer cancel()
	// Once it was accepted, which an answer or two may come before.
	for range 10 {
		if s, err := w.b.Status(ctx, "vm1"); err != nil || s != hypervisor.Incoming {
			t.Fatalf("the destination is %s (%v)", s, err)
		}
	}
	w.finish(w.perform(arrival))
}

// TestStalledMirror: QEMU waits for the handshake of a mirror with its guest standing still, and for what is under way on it
// without end.
func TestStalledMirror(t *testing.T) {
	t.Parallel()
	for name, stall := range map[string]func(r *lab.Relay){
		"handshake": func(r *lab.Relay) { r.MuteAt(30) },
		"data": func(r *lab.Relay) {
			r.MuteAt(1 << 40) // the end of the destination is not heard, either
			r.StallAt(1 << 20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var there string
			w := start(t, func(h *vmhosttest.Hosts, s *model.Shape) {
				here := filepath.Join(h.Disks("a"), "d0.img")
				there = filepath.Join(h.Disks("b"), "d0.img")
				if err := os.WriteFile(here, bytes.Repeat([]byte{7}, 3<<20), 0o600); err != nil {
					t.Fatal(err)
				}
				s.Disks = []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Serial: "s0", Size: 3 << 20, Source: model.Source{Local: here}}}
			})
			w.move.Shape.Disks = slices.Clone(w.move.Shape.Disks)
			w.move.Shape.Disks[0].Source.Local = there
			a := w.prepare()
			u, err := url.Parse(a.Disks["d0"])
			if err != nil {
				t.Fatal(err)
			}
			relay := through(t, u.Host)
			stall(relay)
			u.Host = strings.TrimPrefix(relay.Address(), "tcp:")
			a.Disks["d0"] = u.String()
			ctx, cancel := context.WithTimeout(w.ctx, stallLimit)
			defer cancel()
			_, err = w.a.Perform(ctx, w.move, a, hypervisor.Options{})
			if refused := err != nil; refused != (name == "handshake") || ctx.Err() != nil {
				t.Errorf("the transfer began with %v (%v)", err, ctx.Err())
			}
			w.undo()
		})
	}
}
