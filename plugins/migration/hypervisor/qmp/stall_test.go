package qmp_test

import (
	"context"
	"errors"
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

// TestStalledMirror: a destination that stalls in the handshake of a disk's mirror.
func TestStalledMirror(t *testing.T) {
	t.Parallel()
	for _, bytes := range []int64{0, 30, 400} {
		begun := time.Now()
		var there string
		w := start(t, func(h *vmhosttest.Hosts, s *model.Shape) {
			here := filepath.Join(h.Disks("a"), "d0.img")
			there = filepath.Join(h.Disks("b"), "d0.img")
			if err := os.WriteFile(here, make([]byte, 3<<20), 0o600); err != nil {
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
		relay, err := lab.NewRelay(u.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer relay.Close()
		relay.MuteAt(bytes)
		u.Host = strings.TrimPrefix(relay.Address(), "tcp:")
		a.Disks["d0"] = u.String()
		t.Logf("%d: prepared %v", bytes, time.Since(begun))
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		_, err = w.a.Perform(ctx, w.move, a, hypervisor.Options{})
		cancel()
		t.Logf("%d: %v %v", bytes, err, time.Since(begun))
		ctx, cancel = context.WithTimeout(w.ctx, 5*time.Second)
		s, err := w.a.Status(ctx, "vm1")
		cancel()
		t.Logf("%d: %v %v %v", bytes, s, err, time.Since(begun))
		err = errors.Join(w.b.Finish(w.ctx, w.move, false), w.a.Confirm(w.ctx, w.move, false))
		t.Logf("%d: undone %v %v", bytes, err, time.Since(begun))
	}
}
