package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// PlugVCPU adds the nth vCPU of the board.
func (m *Machine) PlugVCPU(ctx context.Context, cpu string, n int) error {
	return m.QMP.Do(ctx, "device_add", args.VCPU(cpu, n), nil)
}

// PlugNIC adds a card to the guest's segment.
func (m *Machine) PlugNIC(ctx context.Context, n model.NIC) error {
	if err := m.QMP.Do(ctx, "netdev_add", args.User().Port(n.Network, n.ID), nil); err != nil {
		return err
	}
	return m.QMP.Do(ctx, "device_add", args.NIC(n), nil)
}

// PlugDIMM adds memory.
func (m *Machine) PlugDIMM(ctx context.Context, d model.DIMM) error {
	if err := m.QMP.Do(ctx, "object-add", args.MemoryBackend(d.ID, d.Size), nil); err != nil {
		return err
	}
	return m.QMP.Do(ctx, "device_add", args.DIMM(d), nil)
}

// PlugVirtioMem adds a device whose size can be changed.
func (m *Machine) PlugVirtioMem(ctx context.Context, v model.VirtioMem) error {
	if err := m.QMP.Do(ctx, "object-add", args.MemoryBackend(v.ID, v.Max), nil); err != nil {
		return err
	}
	return m.QMP.Do(ctx, "device_add", args.VirtioMem(v), nil)
}

// Resize asks a virtio-mem device for a size; the guest gets there in its own time.
func (m *Machine) Resize(ctx context.Context, id string, bytes uint64) error {
	return m.QMP.Do(ctx, "qom-set", map[string]any{"path": "/machine/peripheral/" + id, "property": "requested-size", "value": bytes}, nil)
}

// Unplug takes a device away and returns once the guest has let go of it. It looks, rather than wait for DEVICE_DELETED:
// of a vCPU under TCG QEMU 7.2 only tells that its interrupt controller was deleted.
func (m *Machine) Unplug(ctx context.Context, id string) error {
	if err := m.QMP.Do(ctx, "device_del", map[string]any{"id": id}, nil); err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var have []struct {
			Name string `json:"name"`
		}
		if err := m.QMP.Do(ctx, "qom-list", map[string]any{"path": "/machine/peripheral"}, &have); err != nil {
			return err
		}
		gone := true
		for _, d := range have {
			gone = gone && d.Name != id
		}
		if gone {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("unplug %s: the guest has not let go of it: %w", id, context.Cause(ctx))
		}
	}
}

// SwapNIC changes a card of the guest for another as a plan does, make before break, and returns for how long its peers did
// not hear of it.
func (g *Guest) SwapNIC(ctx context.Context, m *Machine, from, to model.NIC) (gap time.Duration, err error) {
	if err := g.Beating(ctx); err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := m.PlugNIC(ctx, to); err != nil {
		return 0, err
	}
	if _, err := m.Agent.SwapNIC(ctx, from.MAC, to.MAC); err != nil {
		return 0, err
	}
	if err := m.Unplug(ctx, from.ID); err != nil {
		return 0, err
	}
	if err := m.QMP.Do(ctx, "netdev_del", map[string]any{"id": args.PortID(from.ID)}, nil); err != nil {
		return 0, err
	}
	if err := g.Beating(ctx); err != nil {
		return 0, err
	}
	gap, _ = g.Beats.Gap(begun, time.Now())
	return gap, nil
}
