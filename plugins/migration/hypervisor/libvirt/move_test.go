package libvirt

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/libvirttest"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// trial is a move under test.
type trial struct {
	*testing.T
	hosts pair
	ports [2]*Port
	move  hypervisor.Move
	ctx   context.Context
}

// try starts a VM and connects to both hosts.
func try(t *testing.T, s model.Shape) *trial {
	t.Helper()
	return shared.try(t, s)
}

func (d pair) try(t *testing.T, s model.Shape) *trial {
	t.Helper()
	d.start(t, s)
	return d.begin(t, s.VM)
}

// begin prepares a move of a VM that runs on the first host.
func (d pair) begin(t *testing.T, vm string) *trial {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	x := &trial{T: t, hosts: d, ports: d.ports(t), ctx: ctx}
	s, err := x.ports[0].Describe(ctx, vm)
	x.ok("describe", err)
	x.move = hypervisor.Move{ID: "m1", Epoch: 5, VM: vm, Shape: s, From: x.ports[0].conf.Name, To: x.ports[1].conf.Name}
	return x
}

func (t *trial) ok(what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// perform goes as far as the transfer.
func (t *trial) perform(o hypervisor.Options) (hypervisor.Transfer, error) {
	t.Helper()
	ticket, err := t.ports[0].Begin(t.ctx, t.move)
	t.ok("begin", err)
	a, err := t.ports[1].Prepare(t.ctx, t.move, ticket)
	t.ok("prepare", err)
	return t.ports[0].Perform(t.ctx, t.move, a, o)
}

// complete goes as far as the commit.
func (t *trial) complete(o hypervisor.Options) hypervisor.Transfer {
	t.Helper()
	x, err := t.perform(o)
	t.ok("perform", err)
	t.ok("switch over", x.Switchover(t.ctx))
	t.ok("complete", x.Complete(t.ctx))
	return x
}

func (t *trial) state(p int, want hypervisor.State) {
	t.Helper()
	if got, err := t.ports[p].Status(t.ctx, t.move.VM); err != nil || got != want {
		t.Fatalf("the VM is %s at %s (%v), want %s", got, t.ports[p].conf.Name, err, want)
	}
}

// TestDefinedVM moves a VM that is defined and has a disk of its own: afterwards it is defined at the target alone, with the
// target's disk and network, and the disk has every byte.
func TestDefinedVM(t *testing.T) {
	long(t)
	t.Parallel()
	content := make([]byte, 4<<20)
	_, _ = rand.Read(content)
	var paths [2]string
	for i, d := range shared {
		paths[i] = filepath.Join(d.Dir, "disk.img")
		image(t, paths[i], content[:len(content)*(1-i)])
	}
	s := vm(t)
	s.Disks = []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Serial: "s", Source: model.Source{Local: paths[0]}, Addr: "0x4"}}
	define(t, s)
	x := shared.begin(t, s.VM)
	x.move.Shape.Disks[0].Source.Local = paths[1]
	x.complete(hypervisor.Options{})
	virsh(t, 0, "domstate", s.VM, "--reason", "paused (migrating)")
	virsh(t, 1, "domstate", s.VM, "--reason", "paused (user)")
	x.ok("finish", x.ports[1].Finish(x.ctx, x.move, true))
	x.ok("confirm", x.ports[0].Confirm(x.ctx, x.move, true))

	if got, err := os.ReadFile(paths[1]); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the disk at the target has other bytes (%v)", err)
	}
	if out, err := shared[0].Virsh("domstate", s.VM); err == nil {
		t.Errorf("the source still has the VM: %s", out)
	}
	virsh(t, 1, "list", "--persistent", "--name", s.VM)
	def, err := shared[1].Virsh("dumpxml", "--inactive", s.VM)
	if err != nil || !strings.Contains(def, paths[1]) || strings.Contains(def, paths[0]) {
		t.Errorf("the definition at the target does not have its disk: %v\n%s", err, def)
	}
	// Whoever stops it later does not make it a destination again.
	virsh(t, 1, "suspend", s.VM, "")
	if err := x.ports[1].Finish(x.ctx, x.move, false); err == nil {
		t.Error("a VM that has arrived was discarded")
	}
}

// image makes a disk, which nobody else than the daemons' user may need to write.
func image(t *testing.T, path string, content []byte) {
	t.Helper()
	full := make([]byte, 4<<20)
	copy(full, content)
	if err := errors.Join(os.WriteFile(path, full, 0o666), os.Chmod(path, 0o666)); err != nil {
		t.Fatal(err)
	}
}

// define defines and starts a VM with libvirt's own tools.
func define(t *testing.T, s model.Shape) {
	t.Helper()
	doc, err := domxml.Build(s, domxml.Networks{"segment": "user"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vm.xml")
	if err := os.WriteFile(path, []byte(doc.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shared.clear(s.VM) })
	for _, args := range [][]string{{"define", path}, {"start", s.VM}} {
		if out, err := shared[0].Virsh(args...); err != nil {
			t.Fatalf("virsh %v: %v: %s", args, err, out)
		}
	}
}

// virsh holds what virsh says against the last of args.
func virsh(t *testing.T, i int, args ...string) {
	t.Helper()
	last := len(args) - 1
	if out, err := shared[i].Virsh(args[:last]...); err != nil || out != args[last] {
		t.Errorf("virsh %v at %s: %q (%v), want %q", args[:last], shared[i].Name, out, err, args[last])
	}
}

// TestDaemonRestarts: a daemon that is upgraded in the middle of a move takes its connections with it, but not the VM.
func TestDaemonRestarts(t *testing.T) {
	long(t)
	t.Parallel()
	x := own(t, "r", "s").try(t, vm(t))
	transfer, err := x.perform(hypervisor.Options{})
	x.ok("perform", err)
	x.ok("switch over", transfer.Switchover(x.ctx))
	x.ok("restart the source's daemon", x.hosts[0].Restart())
	for range x.ports[0].Events() { // until it is closed
	}
	if err := transfer.Cancel(x.ctx); err == nil {
		t.Error("cancel: no error on a connection that is gone")
	}
	x.ports[1].Close()
	x.ports = x.hosts.ports(t)
	x.ok("discard", x.ports[1].Finish(x.ctx, x.move, false))
	x.ok("resume", x.ports[0].Confirm(x.ctx, x.move, false))
	x.state(0, hypervisor.Running)
	x.state(1, hypervisor.Absent)

	x.complete(hypervisor.Options{})
	x.ok("restart the target's daemon", x.hosts[1].Restart())
	x.ports[0].Close()
	x.ports = x.hosts.ports(t)
	x.state(0, hypervisor.Moved)
	x.state(1, hypervisor.Paused)
	x.ok("finish", x.ports[1].Finish(x.ctx, x.move, true))
	x.ok("confirm", x.ports[0].Confirm(x.ctx, x.move, true))
	x.state(0, hypervisor.Absent)
	x.state(1, hypervisor.Running)
}

// TestLimits: a plain transfer under a limit says how far it is, and a destination that was readied for TLS is made anew for it.
func TestLimits(t *testing.T) {
	t.Parallel()
	x := try(t, vm(t))
	transfer, err := x.perform(hypervisor.Options{Plain: true, Limits: hypervisor.Limits{Bandwidth: 1 << 20, Downtime: time.Millisecond}})
	x.ok("perform", err)
	again, err := x.ports[0].Perform(x.ctx, x.move, hypervisor.Arrival{}, hypervisor.Options{Plain: true})
	if err != nil || again != transfer {
		t.Errorf("repeated: another transfer, or %v", err)
	}
	if err := transfer.Limit(x.ctx, hypervisor.Limits{StopNow: true}); err == nil {
		t.Error("a post-copy that was not readied is begun")
	}
	x.ok("lift the limit", transfer.Limit(x.ctx, hypervisor.Limits{Downtime: time.Second}))
	x.ok("switch over", transfer.Switchover(x.ctx))
	x.ok("complete", transfer.Complete(x.ctx))
	g, err := transfer.Progress(x.ctx)
	if err != nil || g.Phase != "completed" || g.Total < x.move.Shape.Memory.Boot || g.Transferred == 0 {
		t.Errorf("progress: %+v, %v", g, err)
	}
	x.ok("finish", x.ports[1].Finish(x.ctx, x.move, true))
	x.ok("confirm", x.ports[0].Confirm(x.ctx, x.move, true))
}

// TestOlderManager: a VM that was given orders by a newer manager takes none from an older one, at either host.
func TestOlderManager(t *testing.T) {
	long(t)
	t.Parallel()
	x := try(t, vm(t))
	_, err := x.ports[0].Begin(x.ctx, x.move)
	x.ok("begin", err)
	// The job that Begin has begun keeps others from changing the VM.
	if kind, _, err := x.ports[0].conn.JobStats(x.ctx, x.ports[0].moves.departure("m1", "a").dom, false); err != nil || kind == remote.JobNone {
		t.Errorf("begun, but the VM is not protected: job %d (%v)", kind, err)
	}
	if err := x.ports[0].Confirm(x.ctx, x.move, true); err == nil {
		t.Error("a source that runs was ended")
	}
	x.state(0, hypervisor.Running)
	transfer := x.complete(hypervisor.Options{})
	if err := transfer.Cancel(x.ctx); err == nil {
		t.Error("a transfer whose destination has everything was cancelled")
	}
	old := x.move
	old.Epoch--
	for what, err := range map[string]error{
		"finish": x.ports[1].Finish(x.ctx, old, true), "discard": x.ports[1].Finish(x.ctx, old, false),
		"confirm": x.ports[0].Confirm(x.ctx, old, true), "resume": x.ports[0].Confirm(x.ctx, old, false),
	} {
		if !errors.Is(err, hypervisor.ErrFenced) {
			t.Errorf("%s: %v", what, err)
		}
	}
	x.state(0, hypervisor.Moved)
	x.state(1, hypervisor.Paused)
	other := x.move
	other.ID, other.Epoch = "m2", 9
	if err := x.ports[0].Confirm(x.ctx, other, true); err == nil {
		t.Error("the source of another move was ended")
	}
}

// TestHostWithoutCertificates: memory goes over TLS or not at all, unless it is allowed to go plain.
func TestHostWithoutCertificates(t *testing.T) {
	long(t)
	t.Parallel()
	x := try(t, vm(t))
	d, err := libvirttest.Start(filepath.Dir(shared[0].Dir), "c", nil)
	x.ok("start a daemon", err)
	t.Cleanup(d.Close)
	conf := shared.config(1, x.ports[0].moves)
	conf.Name, conf.Address = d.Name, "unix:"+d.Socket
	x.move.To = d.Name
	for _, plain := range []bool{false, true} {
		conf.Plain = plain
		p, err := Dial(x.ctx, conf)
		x.ok("connect", err)
		ticket, err := x.ports[0].Begin(x.ctx, x.move)
		x.ok("begin", err)
		a, err := p.Prepare(x.ctx, x.move, ticket)
		if !plain {
			if err == nil || !strings.Contains(err.Error(), "set migrate_tls_x509_cert_dir in qemu.conf of c") {
				t.Errorf("prepare: %v", err)
			}
			p.Close()
			continue
		}
		x.ok("prepare", err)
		transfer, err := x.ports[0].Perform(x.ctx, x.move, a, hypervisor.Options{Plain: true})
		x.ok("perform", err)
		x.ok("switch over", transfer.Switchover(x.ctx))
		x.ok("cancel", transfer.Cancel(x.ctx))
		p.Close()
	}
	x.state(0, hypervisor.Running)
}

// TestPlug: devices come and go, and a guest that keeps one, because no system of its own looks, is told of.
func TestPlug(t *testing.T) {
	long(t)
	t.Parallel()
	s := vm(t)
	s.Memory.Max, s.Memory.Slots = 1<<30, 2
	x := try(t, s)
	p, ctx := x.ports[0], x.ctx
	for _, d := range []hypervisor.Plug{
		{VCPU: true},
		{NIC: &model.NIC{ID: "n1", Model: "e1000", MAC: "52:54:00:00:00:02", Network: "segment", Addr: "0x5"}},
		{DIMM: &model.DIMM{ID: "d0", Size: 128 << 20, Slot: 1}},
		{VirtioMem: &model.VirtioMem{ID: "v0", Max: 256 << 20, Addr: "0x6"}},
	} {
		x.ok("plug", p.Plug(ctx, s.VM, d))
	}
	now, err := p.Describe(ctx, s.VM)
	x.ok("describe", err)
	if now.VCPUs != 2 || len(now.NICs) != 2 || now.NICs[1].Addr != "0x5" || len(now.Memory.DIMMs) != 1 || len(now.Memory.VirtioMem) != 1 || now.Memory.Boot != s.Memory.Boot {
		t.Errorf("plugged, but described as %+v", now)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if got, err := p.Resize(short, s.VM, "v0", 128<<20); got != 0 || err != nil {
		t.Errorf("a guest without a driver has taken %d bytes (%v)", got, err)
	}
	if err := p.Unplug(short, s.VM, "n1"); err == nil {
		t.Error("a guest without a system has let go of a card")
	}
	x.ok("unplug what is not there", p.Unplug(ctx, s.VM, "n7"))
	if err := p.Plug(ctx, s.VM, hypervisor.Plug{VCPU: true}); err == nil {
		t.Error("a third vCPU of two")
	}
	if rate, err := p.DirtyRate(ctx, s.VM, time.Second); err != nil || rate > 16<<20 {
		t.Errorf("an idle guest writes %.0f bytes a second (%v)", rate, err)
	}
}

// TestTLS: over TLS a manager is known by its certificate, and the daemon by its own.
func TestTLS(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	pki := shared[0].PKI
	stranger, err := libvirttest.NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		ca, from *libvirttest.PKI
		ok       bool
	}{{"manager", pki, pki, true}, {"stranger", pki, stranger, false}, {"false daemon", stranger, pki, false}} {
		conf := shared.config(0, nil)
		conf.Address, conf.CA = "tls:"+shared[0].TLS, c.ca.CA()
		if conf.Cert, conf.Key, err = c.from.Issue("manager"); err != nil {
			t.Fatal(err)
		}
		p, err := Dial(ctx, conf)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		if _, err := p.List(ctx); err != nil {
			t.Error(err)
		}
		p.Close()
	}
}
