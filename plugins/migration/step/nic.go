package step

import (
	"context"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

func probeNIC(shape model.Shape, s plan.Step) State {
	if s.NIC == nil {
		return Elsewhere
	}
	has := func(n model.NIC) bool {
		return slices.ContainsFunc(shape.NICs, func(o model.NIC) bool { return o.ID == n.ID })
	}
	return swapped(has(s.NIC.From), has(s.NIC.To))
}

// swapped is how far a swap is, by which of the two devices are there.
func swapped(from, to bool) State {
	switch {
	case from && to:
		return Between
	case from:
		return Before
	case to:
		return After
	}
	return Elsewhere
}

func swapNIC(ctx context.Context, vm VM, s plan.Step, state State) error {
	if vm.Guest == nil {
		return ErrNoAgent
	}
	if state == Before {
		if err := vm.Port.Plug(ctx, vm.Name, hypervisor.Plug{NIC: &s.NIC.To}); err != nil {
			return err
		}
	}
	if state == After {
		return nil // the old card was taken away after its addresses had been moved
	}
	// Between may be on the way back: the guest then has the addresses where they are going already, which is fine.
	if _, err := vm.Guest.SwapNIC(ctx, s.NIC.From.MAC, s.NIC.To.MAC); err != nil {
		return err
	}
	return vm.Port.Unplug(ctx, vm.Name, s.NIC.From.ID)
}
