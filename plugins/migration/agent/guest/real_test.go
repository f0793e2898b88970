package guest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/lab"
)

// restore starts a lab guest, which runs the agent as it is shipped.
func restore(t *testing.T) (context.Context, *lab.Guest, *lab.Machine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	g, err := lab.New(t).Guest("agent")
	if err != nil {
		t.Fatal(err)
	}
	m, err := g.Bare(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("QEMU: %s; console: %s", m.Ended(), m.Console())
		}
	})
	return ctx, g, m
}

func state(t *testing.T, can []model.Capability, name string) model.CapabilityState {
	t.Helper()
	for _, c := range can {
		if c.Name == name {
			return c.State
		}
	}
	t.Fatalf("no capability %s in %v", name, can)
	return ""
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestInGuest carries out on a real guest what a change of its type needs, in the order of a plan.
func TestInGuest(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a VM; the agent in it is not built with the race detector anyway")
	}
	ctx, g, m := restore(t)
	a := m.Agent
	before, err := a.Report(ctx)
	must(t, err)
	if before.CPUs != 1 || before.BootID != g.BootID || len(before.NICs) != 1 || before.NICs[0].Driver != "virtio_net" || !before.NICs[0].Carrier {
		t.Errorf("report: %+v", before)
	}
	for name, want := range map[string]model.CapabilityState{
		model.CanCPUHotplug: model.Ready, model.CanDIMM: model.Ready, model.CanVirtioMem: model.CanBeGiven,
		model.CanDriver + "virtio-net-pci": model.Ready, model.CanDriver + "e1000": model.CanBeGiven, model.CanDriver + "rtl8139": model.Missing,
	} {
		if got := state(t, before.Can, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	t.Run("augment", func(t *testing.T) {
		can, err := a.Augment(ctx, model.CanDriver+"e1000", model.CanVirtioMem, model.CanDriver+"rtl8139")
		must(t, err)
		if state(t, can, model.CanDriver+"e1000") != model.Ready || state(t, can, model.CanVirtioMem) != model.Ready || state(t, can, model.CanDriver+"rtl8139") != model.Missing {
			t.Errorf("augmented: %v", can)
		}
	})
	t.Run("NIC", func(t *testing.T) {
		e1000 := model.NIC{ID: "nic1", Model: "e1000", MAC: lab.SecondMAC, Network: lab.Network, Addr: "0x5"}
		swap(ctx, t, g, m, g.Shape.NICs[0], e1000)
		swap(ctx, t, g, m, e1000, g.Shape.NICs[0])
	})
	t.Run("memory", func(t *testing.T) {
		const mib = 1 << 20
		must(t, m.PlugDIMM(ctx, model.DIMM{ID: "dimm0", Size: 128 * mib, Slot: 0}))
		now, err := a.OnlineMemory(ctx, before.Memory+128*mib)
		must(t, err)
		must(t, m.PlugVirtioMem(ctx, model.VirtioMem{ID: "vm0", Max: 512 * mib, Requested: 128 * mib, Bus: "pci.0", Addr: "0x6"}))
		now, err = a.OnlineMemory(ctx, now+128*mib)
		must(t, err)
		if now < before.Memory+256*mib {
			t.Errorf("%d MiB online", now/mib)
		}
		must(t, m.Resize(ctx, "vm0", 0))
		now, err = a.OfflineMemory(ctx, before.Memory)
		must(t, err)
		if now > before.Memory {
			t.Errorf("%d MiB online after it shrank", now/mib)
		}
		must(t, m.Unplug(ctx, "dimm0"))
	})
	t.Run("CPU that never comes", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := a.OnlineCPUs(short, 2)
		if e := (*wire.Error)(nil); !errors.As(err, &e) || e.Code != wire.NotReached {
			t.Errorf("got %v", err)
		}
	})
	// The last one: QEMU 7.2 under TCG does not survive the next change of its devices after a vCPU was unplugged.
	t.Run("vCPU", func(t *testing.T) {
		must(t, m.PlugVCPU(ctx, g.Shape.CPU.Model, 1))
		n, err := a.OnlineCPUs(ctx, 2)
		must(t, err)
		if n != 2 {
			t.Errorf("%d CPUs online", n)
		}
		_, err = a.OfflineCPUs(ctx, 1)
		must(t, err)
		must(t, m.Unplug(ctx, "cpu1"))
	})
}

// swap goes from one card to the other, and says how long the guest was silent: benches hold that against the goal, a test
// on a busy machine cannot.
func swap(ctx context.Context, t *testing.T, g *lab.Guest, m *lab.Machine, from, to model.NIC) {
	t.Helper()
	gap, err := g.SwapNIC(ctx, m, from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s to %s: silent for %v", from.Model, to.Model, gap)
	// Asked a second time it has nothing left to do.
	again, err := m.Agent.SwapNIC(ctx, from.MAC, to.MAC)
	if err != nil || len(again.Addresses) > 0 {
		t.Errorf("swapped again: %+v, %v", again, err)
	}
}
