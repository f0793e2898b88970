package step

import (
	"context"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

func probeMemory(shape model.Shape, s plan.Step) State {
	if s.DIMM != nil {
		has := slices.ContainsFunc(shape.Memory.DIMMs, func(d model.DIMM) bool { return d.ID == s.DIMM.ID })
		if has == (s.Kind == plan.GrowMemory) {
			return After
		}
		return Before
	}
	i := slices.IndexFunc(shape.Memory.VirtioMem, func(v model.VirtioMem) bool { return v.ID == s.Device })
	if i < 0 || s.Memory == nil {
		return Elsewhere
	}
	switch shape.Memory.VirtioMem[i].Requested {
	case s.Memory.From:
		return Before
	case s.Memory.To:
		return After
	}
	return Between // a guest lets go of its memory block by block
}

func changeMemory(ctx context.Context, vm VM, s plan.Step, state State) error {
	switch {
	case s.DIMM == nil:
		return resize(ctx, vm, s)
	case s.Kind == plan.GrowMemory:
		return plugDIMM(ctx, vm, *s.DIMM, state)
	}
	return unplugDIMM(ctx, vm, *s.DIMM, state)
}

// resize asks a virtio-mem device for another size: also one that was asked before, since having asked is not having got.
func resize(ctx context.Context, vm VM, s plan.Step) error {
	reached, err := vm.Port.Resize(ctx, vm.Name, s.Device, s.Memory.To)
	if err != nil {
		return err
	}
	if reached != s.Memory.To {
		return fmt.Errorf("%w: it has %d MiB of this device, %d MiB were asked for; its memory is in use, or its driver is missing",
			ErrPartly, reached>>20, s.Memory.To>>20)
	}
	if s.Kind == plan.GrowMemory && vm.Guest != nil {
		_, err = vm.Guest.OnlineMemory(ctx, 0)
	}
	return err
}

func plugDIMM(ctx context.Context, vm VM, d model.DIMM, state State) error {
	if vm.Guest == nil {
		return ErrNoAgent // a module that nobody brings online is of no use
	}
	want := uint64(0) // what is there: how much the guest had before the module came is no longer known
	if state == Before {
		has, err := vm.Guest.Report(ctx)
		if err != nil {
			return err
		}
		want = has.Memory + d.Size
		if err := vm.Port.Plug(ctx, vm.Name, hypervisor.Plug{DIMM: &d}); err != nil {
			return err
		}
	}
	_, err := vm.Guest.OnlineMemory(ctx, want)
	return err
}

func unplugDIMM(ctx context.Context, vm VM, d model.DIMM, state State) error {
	if state == After {
		return nil
	}
	if vm.Guest == nil {
		return ErrNoAgent
	}
	has, err := vm.Guest.Report(ctx)
	if err != nil {
		return err
	}
	// Unplugging is the guest's to refuse as well; asked like this it says why.
	if _, err := vm.Guest.OfflineMemory(ctx, has.Memory-min(has.Memory, d.Size)); err != nil {
		return err
	}
	return vm.Port.Unplug(ctx, vm.Name, d.ID)
}
