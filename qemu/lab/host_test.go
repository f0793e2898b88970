package lab

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// TestHost restores a guest on a host, asks it as a manager does, and kills it.
func TestHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l := New(t)
	h, err := l.Host(ctx, "alpha", HostOptions{})
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(h.Disks, "vm1.raw")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, DiskSize)); err != nil {
		t.Fatal(err)
	}
	s := l.Image.Shape("vm1")
	s.Disks = []model.Disk{Disk(model.Source{Local: image})}
	g, err := l.GuestOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Restore(ctx, g); err != nil {
		t.Fatalf("%v; console: %s", err, h.Console("vm1"))
	}
	p, err := h.Port(ctx, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.List(ctx)
	if err != nil || len(list) != 1 || list[0].Name != "vm1" || list[0].State != hypervisor.Running {
		t.Errorf("VMs %+v, %v", list, err)
	}
	a := agent.New(func(ctx context.Context) (net.Conn, error) { return p.Channel(ctx, "vm1") }, agent.Options{})
	defer a.Close()
	if id, err := a.Ping(ctx); err != nil || id != g.BootID {
		t.Errorf("boot ID %q, %v", id, err)
	}
	if disks, err := a.Disks(ctx, wire.DiskQuery{Serial: "disk0", Driver: "virtio_blk"}); err != nil || len(disks) != 1 || disks[0].Bytes != DiskSize {
		t.Errorf("disks %+v, %v", disks, err)
	}
	// Eight blocks are written until each was written at least once.
	if err := g.Disk(ctx, "disk0", 8, 1000); err != nil {
		t.Fatal(err)
	}
	if r, err := g.VerifyDisk(ctx); err != nil {
		t.Errorf("disk %+v, %v", r, err)
	}
	if got := g.Runners.Running(); !slices.Equal(got, []string{"alpha/vm1"}) {
		t.Errorf("running: %v", got)
	}
	if err := h.Kill("vm1"); err != nil {
		t.Fatal(err)
	}
	if got := g.Runners.Running(); len(got) != 0 {
		t.Errorf("running after it was killed: %v", got)
	}
	if err := h.Restart(); err != nil {
		t.Fatal(err)
	}
	if p, err = h.Port(ctx, 0, false); err != nil {
		t.Fatal(err)
	}
	if list, err := p.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("VMs after the host has crashed: %+v, %v", list, err)
	}
}
