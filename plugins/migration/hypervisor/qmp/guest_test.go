package qmp_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// TestGuest is what only a guest that runs can show: it lets go of what was plugged, its writes are in both copies of a
// local disk, and its memory arrives as it was.
func TestGuest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l := lab.New(t)
	var hosts []*lab.Host
	var ports []hypervisor.Port
	for _, name := range []string{"alpha", "beta"} {
		h, err := l.Host(ctx, name, lab.HostOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.Port(ctx, 1, false)
		if err != nil {
			t.Fatal(err)
		}
		hosts, ports = append(hosts, h), append(ports, p)
	}
	here, there := filepath.Join(hosts[0].Disks, "disk"), filepath.Join(hosts[1].Disks, "disk")
	if err := os.WriteFile(here, make([]byte, lab.DiskSize), 0o600); err != nil {
		t.Fatal(err)
	}
	s := l.Image.Shape("vm1")
	s.Disks = []model.Disk{lab.Disk(model.Source{Local: here})}
	g, err := l.GuestOf(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := hosts[0].Restore(ctx, g); err != nil {
		t.Fatal(err)
	}
	a, b := ports[0], ports[1]
	t.Cleanup(func() {
		if t.Failed() {
			for _, h := range hosts {
				log, _ := os.ReadFile(filepath.Join(h.Dir, "vms", "vm1", "qemu.log"))
				t.Logf("%s: QEMU said %s; console: %s", h.Name, log, h.Console("vm1"))
			}
		}
	})
	guest := agent.New(func(ctx context.Context) (net.Conn, error) { return a.Channel(ctx, "vm1") }, agent.Options{})
	defer guest.Close()
	before, err := a.Describe(ctx, "vm1")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []hypervisor.Plug{
		{NIC: &model.NIC{ID: "nic1", Model: "e1000", MAC: lab.SecondMAC, Network: lab.Network, Bus: "pci.0", Addr: "0x8"}},
		{DIMM: &model.DIMM{ID: "dimm0", Size: 128 << 20}},
	} {
		plugUnplug(ctx, t, a, before, d)
	}
	// A vCPU stays: QEMU under TCG would not survive that it goes, and is not asked to.
	if err := a.Plug(ctx, "vm1", hypervisor.Plug{VCPU: true}); err != nil {
		t.Fatal(err)
	}
	if n, err := guest.OnlineCPUs(ctx, 2); err != nil || n != 2 {
		t.Fatalf("%d vCPUs (%v)", n, err)
	}
	if err := a.Unplug(ctx, "vm1", "cpu1"); err == nil {
		t.Error("a vCPU was unplugged under TCG")
	}
	if _, err := guest.Augment(ctx, model.CanVirtioMem); err != nil {
		t.Fatal(err)
	}
	resize(ctx, t, a)

	if s, err := a.Describe(ctx, "vm1"); err != nil {
		t.Fatal(err)
	} else if before = s; len(s.Memory.VirtioMem) != 1 {
		t.Fatalf("virtio-mem is gone: %+v", s.Memory)
	}
	if err := g.Memory(ctx, 16, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := g.Disk(ctx, "disk0", 64, 200); err != nil {
		t.Fatal(err)
	}
	if rate, err := a.DirtyRate(ctx, "vm1", time.Second); err != nil || rate == 0 {
		t.Errorf("a guest that writes 4 MiB a second has a dirty rate of %v (%v)", rate, err)
	}
	if n, err := a.(*qmp.Port).Resident(ctx, "vm1"); err != nil || n < 16<<20 {
		t.Errorf("%d bytes resident (%v)", n, err)
	}
	m := hypervisor.Move{ID: "m1", Epoch: 1, VM: "vm1", Shape: before, From: "alpha", To: "beta"}
	m.Shape.Disks = slices.Clone(m.Shape.Disks)
	m.Shape.Disks[0].Source.Local = there
	w := &world{T: t, ctx: ctx, a: a, b: b, move: m}
	w.finish(w.perform(w.prepare()))
	if r, err := g.VerifyMemory(ctx); err != nil || r.Bad > 0 {
		t.Errorf("memory after the move: %+v, %v", r, err)
	}
	if r, err := g.VerifyDisk(ctx); err != nil || r.Bad > 0 {
		t.Errorf("disk after the move: %+v, %v", r, err)
	}
	if err := g.Runners.Err(); err != nil {
		t.Error(err)
	}
	if at := g.Runners.Running(); !slices.Equal(at, []string{"beta/vm1"}) {
		t.Errorf("it runs at %v", at)
	}
}

// plugUnplug takes the VM there and back.
func plugUnplug(ctx context.Context, t *testing.T, p hypervisor.Port, before model.Shape, d hypervisor.Plug) {
	t.Helper()
	if err := p.Plug(ctx, "vm1", d); err != nil {
		t.Fatal(err)
	}
	with, err := p.Describe(ctx, "vm1")
	if err != nil {
		t.Fatal(err)
	}
	added := slices.DeleteFunc(hypervisortest.IDs(with), func(id string) bool { return slices.Contains(hypervisortest.IDs(before), id) })
	if len(added) != 1 {
		t.Fatalf("plugged %+v, and there is more: %v", d, added)
	}
	for range 2 {
		if err := p.Unplug(ctx, "vm1", added[0]); err != nil {
			t.Fatal(err)
		}
	}
	after, err := p.Describe(ctx, "vm1")
	if err != nil || after.Digest() != before.Digest() {
		t.Errorf("unplugged %s, but described as\n%+v\nbefore\n%+v (%v)", added[0], after, before, err)
	}
}

// resize grows a virtio-mem device and asks for less than the guest can give back in no time.
func resize(ctx context.Context, t *testing.T, p hypervisor.Port) {
	t.Helper()
	v := model.VirtioMem{ID: "vmem0", Max: 256 << 20, Bus: "pci.0", Addr: "0x9"}
	if err := p.Plug(ctx, "vm1", hypervisor.Plug{VirtioMem: &v}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if n, err := p.Resize(ctx, "vm1", "vmem0", 128<<20); err != nil || n != 128<<20 {
		t.Errorf("grown to %d (%v)", n, err)
	}
	short, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	if n, err := p.Resize(short, "vm1", "vmem0", 0); err == nil && n > 128<<20 {
		t.Errorf("shrunk to %d", n)
	}
	if n, err := p.Resize(ctx, "vm1", "vmem0", 0); err != nil || n != 0 {
		t.Errorf("shrunk to %d (%v)", n, err)
	}
}
