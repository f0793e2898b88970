package run

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal/journaltest"
)

const (
	vm     = "vm1"
	volume = "data"
)

// lab is two hosts in memory, a disk for journals, and one manager after the other.
type lab struct {
	t     *testing.T
	w     *hypervisortest.World
	disk  *journaltest.Disk
	guest *guest
	plan  plan.Plan

	mutant  mutant
	broken  bool // on purpose
	life    int  // managers that have crashed
	changed chan struct{}
	r       *Runner
}

// bare is a VM with one card, a volume and virtio-mem.
func bare() model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: vm, UUID: "11111111-2222-3333-4444-555555555555", Machine: "pc-i440fx-7.2", Accel: "tcg",
		CPU: model.CPU{Model: "qemu64", Features: []string{"sse2"}}, VCPUs: 2, MaxVCPUs: 4,
		Memory: model.Memory{Boot: 262136 << 10, Max: 2 << 30, Slots: 4, VirtioMem: []model.VirtioMem{{ID: "vmem0", Max: 512 << 20, Requested: 128 << 20, Block: 2 << 20, Addr: "0x5"}}},
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan", Addr: "0x3"}},
		Disks:  []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Serial: "s0", Size: 1 << 30, Addr: "0x4", Source: model.Source{Volume: &model.Volume{Name: volume, Server: "tcp:192.0.2.1:10809"}}}},
	}
}

func newLab(t *testing.T, ty model.VMType, goal model.Goal) *lab {
	t.Helper()
	l := &lab{t: t, w: hypervisortest.NewWorld("a", "b"), disk: &journaltest.Disk{}, changed: make(chan struct{}, 1)}
	hosts := map[string]model.Host{}
	for _, name := range []string{"a", "b"} {
		hosts[name] = model.Host{
			Name: name, Hypervisor: "memory", Accels: []string{"tcg"}, Machines: []string{"pc-i440fx-7.2"},
			CPUs: []model.CPU{{Model: "qemu64", Features: []string{"sse2"}}}, Devices: []string{"e1000", "virtio-net-pci", "virtio-blk-pci", "virtio-mem-pci", "nvme"},
			Networks: []string{"lan"}, FreeVCPUs: 16, MaxVCPUs: 16, FreeMemory: 8 << 30, PostCopy: true, TLS: true,
		}
		l.w.SetHost(hosts[name])
	}
	l.guest = &guest{w: l.w}
	if goal.AllowPostCopy { // and needs it
		l.w.Guest = func(string) hypervisortest.Behaviour {
			return hypervisortest.Behaviour{Dirty: 1.6 * float64(goal.Bandwidth), Bandwidth: float64(goal.Bandwidth)}
		}
	}
	l.w.Start("a", bare())
	p, refusals := plan.Make(plan.Input{
		ID: "move-1", Shape: bare(), Type: ty, Source: hosts["a"], Target: hosts["b"], Guest: l.guest.report(), Goal: goal,
		Volumes: map[string]uint64{volume: 1 << 30},
	})
	if len(refusals) > 0 {
		t.Fatalf("the plan is refused: %v", refusals)
	}
	l.plan = p
	return l
}

// volumes hands over for one manager, as long as it lives.
type volumes struct {
	l    *lab
	life int
}

func (v volumes) Handover(ctx context.Context, volume, from, to string) (uint64, error) {
	if v.life != v.l.life {
		return 0, hypervisortest.ErrCrashed
	}
	return v.l.w.Handover(ctx, volume, from, to)
}

// open starts a manager.
func (l *lab) open() error {
	l.t.Helper()
	ports := map[string]hypervisor.Port{}
	for _, name := range []string{"a", "b"} {
		p, err := l.w.Port(name)
		if err != nil {
			l.t.Fatal(err)
		}
		ports[name] = p
	}
	r, err := Open(Options{
		Ports:   func(host string) (hypervisor.Port, error) { return ports[host], nil },
		Guests:  func(hypervisor.Port, string) agent.Client { return l.guest },
		Volumes: volumes{l, l.life}, Disk: l.disk, mutant: l.mutant,
		Changed: func() {
			select {
			case l.changed <- struct{}{}:
			default:
			}
		},
	})
	if err == nil {
		l.r = r
	}
	return err
}

// settled waits until nothing more happens by itself.
func (l *lab) settled() Status {
	for {
		s, ok := l.r.Move(l.plan.ID)
		if !ok || s.Ends() {
			return s
		}
		<-l.changed
		l.w.Advance(time.Second) // memory moves as the manager looks
	}
}

// guest is an agent that answers where the VM runs.
type guest struct {
	w *hypervisortest.World

	mu    sync.Mutex
	fault func(verb string) hypervisortest.Fault
	boot  string // instead of its own
}

var _ agent.Client = (*guest)(nil)

func (g *guest) report() *model.Guest {
	var can []model.Capability
	for _, name := range []string{
		model.CanCPUHotplug, model.CanCPUUnplug, model.CanDIMM, model.CanVirtioMem, model.CanMoveNIC, model.CanMoveDisk,
		model.CanDriver + "e1000", model.CanDriver + "virtio-net-pci", model.CanDriver + "nvme", model.CanDriver + "virtio-blk-pci",
	} {
		can = append(can, model.Capability{Name: name, State: model.Ready})
	}
	return &model.Guest{Agent: "1", BootID: "boot", CPUs: 2, Present: 2, Memory: 370 << 20, Can: can, NICs: []model.GuestNIC{{Name: "eth0", MAC: "52:54:00:00:00:01", Driver: "virtio_net", Carrier: true}}}
}

func (g *guest) ask(ctx context.Context, verb string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	f := hypervisortest.None
	if g.fault != nil {
		f = g.fault(verb)
	}
	switch {
	case f == hypervisortest.FailBefore || f == hypervisortest.FailAfter:
		return &wire.Error{Code: wire.Refused, Text: "the guest refuses"}
	case f == hypervisortest.CrashBefore || f == hypervisortest.CrashAfter:
		g.w.Crash()
		return hypervisortest.ErrCrashed
	case f == hypervisortest.Stall || g.w.Runner(vm) == "":
		g.mu.Unlock()
		<-ctx.Done()
		g.mu.Lock()
		return fmt.Errorf("%s: %w", verb, agent.ErrNoAgent)
	}
	return nil
}

func (g *guest) Report(ctx context.Context) (model.Guest, error) {
	return *g.report(), g.ask(ctx, "report")
}

func (g *guest) Ping(ctx context.Context) (string, error) {
	err := g.ask(ctx, "ping")
	return cmp.Or(g.boot, "boot"), err
}

func (g *guest) Augment(ctx context.Context, names ...string) (list []model.Capability, err error) {
	for _, n := range names {
		list = append(list, model.Capability{Name: n, State: model.Ready})
	}
	return list, g.ask(ctx, "augment")
}

func (g *guest) OnlineCPUs(ctx context.Context, want int) (int, error) {
	return want, g.ask(ctx, "online-cpus")
}

func (g *guest) OfflineCPUs(ctx context.Context, want int) (int, error) {
	return want, g.ask(ctx, "offline-cpus")
}

func (g *guest) OnlineMemory(ctx context.Context, want uint64) (uint64, error) {
	return want, g.ask(ctx, "online-memory")
}

func (g *guest) OfflineMemory(ctx context.Context, want uint64) (uint64, error) {
	return want, g.ask(ctx, "offline-memory")
}

func (g *guest) SwapNIC(ctx context.Context, _, _ string) (wire.NICSwap, error) {
	return wire.NICSwap{}, g.ask(ctx, "swap-nic")
}

func (g *guest) Disks(ctx context.Context, q wire.DiskQuery) ([]wire.Disk, error) {
	return []wire.Disk{{Path: "/dev/vda", Serial: q.Serial, Driver: "virtio_blk"}}, g.ask(ctx, "disks")
}

func (g *guest) Hook(ctx context.Context, _ string) error { return g.ask(ctx, "hook") }

func (g *guest) Close() error { return nil }

// types and goals that the tests move with.
var (
	retype = model.VMType{VCPUs: 1, Memory: strict.Size(320 << 20), NIC: "e1000"}
	grown  = model.VMType{VCPUs: 3, Memory: strict.Size(512 << 20), NIC: "e1000"}
	eager  = model.Goal{AllowPostCopy: true, Bandwidth: strict.Size(10 << 20)}
)
