package step

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

func probeVCPUs(shape model.Shape, s plan.Step) State {
	switch {
	case s.VCPUs == nil:
		return Elsewhere
	case shape.VCPUs == s.VCPUs.From:
		return Before
	case shape.VCPUs == s.VCPUs.To:
		return After
	}
	return Elsewhere
}

func changeVCPUs(ctx context.Context, vm VM, s plan.Step, state State) error {
	if vm.Guest == nil {
		return ErrNoAgent
	}
	if s.Kind == plan.PlugVCPU {
		if state == Before {
			if err := vm.Port.Plug(ctx, vm.Name, hypervisor.Plug{VCPU: true}); err != nil {
				return err
			}
		}
		return online(ctx, vm, s.VCPUs.To)
	}
	if state == After {
		return nil
	}
	// The kernel would take an online one off too, but only the guest can say why it cannot.
	if _, err := vm.Guest.OfflineCPUs(ctx, s.VCPUs.To); err != nil {
		return err
	}
	return vm.Port.Unplug(ctx, vm.Name, s.Device)
}

// online brings processors online: kernels do not do it by themselves everywhere.
func online(ctx context.Context, vm VM, want int) error {
	got, err := vm.Guest.OnlineCPUs(ctx, want)
	if err == nil && got < want {
		err = fmt.Errorf("%w: %d of %d processors are online", ErrPartly, got, want)
	}
	return err
}
