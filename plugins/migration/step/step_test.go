package step_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/hypervisortest"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/step"
)

const vm = "vm1"

func shape() model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: vm, Machine: "pc-i440fx-7.2", Accel: "kvm", CPU: model.CPU{Model: "qemu64"}, VCPUs: 2, MaxVCPUs: 4,
		Memory: model.Memory{Boot: 1 << 30, Max: 4 << 30, Slots: 4, VirtioMem: []model.VirtioMem{{ID: "vmem0", Max: 1 << 30, Requested: 512 << 20}}},
		NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan"}},
		Disks:  []model.Disk{{ID: "d0", Model: "virtio-blk-pci", Serial: "s0", Size: 1 << 30}},
	}
}

func steps() map[string]plan.Step {
	s := shape()
	nic, disk := s.NICs[0], s.Disks[0]
	nic.ID, nic.Model, nic.MAC = "n0-1", "e1000", "52:54:00:00:00:02"
	disk.ID, disk.Model = "d0-1", "nvme"
	return map[string]plan.Step{
		"shrink": {Kind: plan.ShrinkMemory, Device: "vmem0", Memory: &plan.Change[uint64]{From: 512 << 20, To: 128 << 20}},
		"grow":   {Kind: plan.GrowMemory, Device: "vmem0", Memory: &plan.Change[uint64]{From: 512 << 20, To: 1 << 30}},
		"dimm":   {Kind: plan.GrowMemory, Device: "dimm0", DIMM: &model.DIMM{ID: "dimm0", Size: 256 << 20}},
		"plug":   {Kind: plan.PlugVCPU, Device: "cpu2", VCPUs: &plan.Change[int]{From: 2, To: 3}},
		"unplug": {Kind: plan.UnplugVCPU, Device: "cpu1", VCPUs: &plan.Change[int]{From: 2, To: 1}},
		"nic":    {Kind: plan.SwapNIC, Device: "n0", NIC: &plan.Change[model.NIC]{From: s.NICs[0], To: nic}},
		"disk":   {Kind: plan.SwapDisk, Device: "d0", Disk: &plan.Change[model.Disk]{From: s.Disks[0], To: disk}},
	}
}

// guest is an agent that does what it is told, unless it was told to refuse.
type guest struct {
	agent.Client // nil: what is not below is not called
	refuse       string
	inUse        string
	unknown      bool // the disk: QEMU gives guests twenty bytes of a serial number
	missing      bool
	orders       []string
}

func (g *guest) do(verb string) error {
	g.orders = append(g.orders, verb)
	if g.refuse == verb {
		return &wire.Error{Code: wire.Refused, Text: "the guest refuses"}
	}
	return nil
}

func (g *guest) Report(context.Context) (model.Guest, error) {
	return model.Guest{Memory: 1 << 30}, g.do("report")
}

func (g *guest) OnlineCPUs(_ context.Context, n int) (int, error) { return n, g.do("online-cpus") }

func (g *guest) OfflineCPUs(_ context.Context, n int) (int, error) { return n, g.do("offline-cpus") }

func (g *guest) OnlineMemory(_ context.Context, n uint64) (uint64, error) {
	return n, g.do("online-memory")
}

func (g *guest) OfflineMemory(_ context.Context, n uint64) (uint64, error) {
	return n, g.do("offline-memory")
}

func (g *guest) SwapNIC(_ context.Context, from, to string) (wire.NICSwap, error) {
	return wire.NICSwap{}, g.do("swap-nic " + from + " " + to)
}

func (g *guest) Disks(context.Context, wire.DiskQuery) ([]wire.Disk, error) {
	if g.unknown {
		return nil, g.do("disks")
	}
	return []wire.Disk{{Path: "/dev/vda", Serial: "s0", Driver: "virtio_blk", InUse: g.inUse}}, g.do("disks")
}

func (g *guest) Augment(_ context.Context, names ...string) (list []model.Capability, err error) {
	for _, n := range names {
		c := model.Capability{Name: n, State: model.Ready}
		if g.missing {
			c.State, c.Detail = model.Missing, "(no module e1000 for this kernel)"
		}
		list = append(list, c)
	}
	return list, g.do("augment")
}

func (g *guest) Hook(_ context.Context, name string) error { return g.do("hook " + name) }

// on is a VM in a world of its own.
func on(t *testing.T, g *guest) (*hypervisortest.World, step.VM) {
	t.Helper()
	w := hypervisortest.NewWorld("a")
	w.Start("a", shape())
	p, err := w.Port("a")
	if err != nil {
		t.Fatal(err)
	}
	return w, step.VM{Name: vm, Port: p, Guest: g}
}

// TestThereAndBack does each step, does it again, and takes it back; then with a failure at each call, after which it is
// done again or taken back.
func TestThereAndBack(t *testing.T) {
	ctx := context.Background()
	for name, s := range steps() {
		t.Run(name, func(t *testing.T) {
			calls := 0
			for _, there := range []bool{true, false} {
				for n := -1; n < calls; n++ {
					for _, f := range []hypervisortest.Fault{hypervisortest.FailBefore, hypervisortest.FailAfter} {
						w, v := on(t, &guest{})
						at := 0
						w.Inject(func(hypervisortest.Call) hypervisortest.Fault {
							at++
							if at-1 == n {
								return f
							}
							return hypervisortest.None
						})
						if err := step.Do(ctx, v, s); n < 0 && err != nil {
							t.Fatal(err)
						}
						if n < 0 {
							calls = at
						}
						last, want := s, step.After
						if !there {
							last, want = plan.Invert(s), step.Before
						}
						for range 2 { // done twice is done once
							if err := step.Do(ctx, v, last); err != nil {
								t.Fatalf("%s at call %d, then there %t: %v", f, n, there, err)
							}
						}
						now, _ := w.Shape("a", vm)
						if state, err := step.Probe(now, s); state != want || err != nil {
							t.Errorf("%s at call %d, then there %t: it is %s, %v: %+v", f, n, there, state, err, now)
						}
						expect, err := plan.Apply(shape(), s)
						if !there {
							expect = shape()
						}
						if err != nil || !plan.Reached(now, expect) {
							t.Errorf("%s at call %d, then there %t: %+v, %v", f, n, there, now, err)
						}
					}
				}
			}
		})
	}
}

// TestRefused lets guests refuse, and looks at the reason and that the way back is open.
func TestRefused(t *testing.T) {
	all := steps()
	for name, c := range map[string]struct {
		step      plan.Step
		guest     *guest
		behaviour hypervisortest.Behaviour
		want      string
	}{
		"memory in use":                       {all["shrink"], &guest{}, hypervisortest.Behaviour{Floor: 256 << 20}, "256 MiB of this device, 128 MiB were asked for"},
		"a CPU stays offline":                 {all["plug"], &guest{refuse: "online-cpus"}, hypervisortest.Behaviour{}, "refuses"},
		"the card clings":                     {all["nic"], &guest{}, hypervisortest.Behaviour{Clings: []string{"n0"}}, "the guest keeps it"},
		"no carrier":                          {all["nic"], &guest{refuse: "swap-nic 52:54:00:00:00:01 52:54:00:00:00:02"}, hypervisortest.Behaviour{}, "refuses"},
		"a mounted disk":                      {all["disk"], &guest{inUse: "mounted at /srv"}, hypervisortest.Behaviour{}, "stop using it there"},
		"a disk that the guest does not know": {all["disk"], &guest{unknown: true}, hypervisortest.Behaviour{}, "nobody can tell whether it is in use"},
		"no module":                           {plan.Step{Kind: plan.Augment, Side: plan.Guest, Capabilities: []string{"driver:e1000"}}, &guest{missing: true}, hypervisortest.Behaviour{}, "no module e1000"},
		"a step of the future":                {plan.Step{Kind: "teleport"}, &guest{}, hypervisortest.Behaviour{}, "do not know"},
		"changed by somebody":                 {plan.Step{Kind: plan.PlugVCPU, VCPUs: &plan.Change[int]{From: 3, To: 4}}, &guest{}, hypervisortest.Behaviour{}, step.ErrElsewhere.Error()},
		"no agent":                            {all["nic"], nil, hypervisortest.Behaviour{}, step.ErrNoAgent.Error()},
		"a hook of the template":              {plan.Step{Kind: plan.HookBefore, Side: plan.Guest, Hook: "drain"}, &guest{refuse: "hook drain"}, hypervisortest.Behaviour{}, "refuses"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, v := on(t, c.guest)
				if c.guest == nil {
					v.Guest = nil
				}
				w.Guest = func(string) hypervisortest.Behaviour { return c.behaviour }
				err := step.Do(t.Context(), v, c.step)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("%v, want %q", err, c.want)
				}
				if state, err := step.Probe(shape(), c.step); err != nil || state == step.Elsewhere || c.step.Side == plan.Guest {
					return // nothing to take back
				}
				w.Guest = nil
				if v.Guest == nil {
					v.Guest = &guest{}
				}
				v.Guest.(*guest).refuse = ""
				if err := step.Do(t.Context(), v, plan.Invert(c.step)); err != nil {
					t.Fatalf("the way back: %v", err)
				}
				if now, _ := w.Shape("a", vm); !plan.Reached(now, shape()) {
					t.Errorf("after the way back it is %+v", now)
				}
			})
		})
	}
}

// TestMakeBeforeBreak: addresses move while both cards are there.
func TestMakeBeforeBreak(t *testing.T) {
	w, v := on(t, &guest{})
	var order []string
	w.Inject(func(c hypervisortest.Call) hypervisortest.Fault {
		order = append(order, c.Name)
		return hypervisortest.None
	})
	v.Guest.(*guest).orders = nil
	if err := step.Do(t.Context(), v, steps()["nic"]); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(order, []string{"Describe", "Plug", "Unplug"}) || len(v.Guest.(*guest).orders) != 1 {
		t.Errorf("hypervisor %v, guest %v", order, v.Guest.(*guest).orders)
	}
}
