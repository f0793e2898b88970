package step

import (
	"context"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

func probeDisk(shape model.Shape, s plan.Step) State {
	if s.Disk == nil {
		return Elsewhere
	}
	has := func(d model.Disk) bool {
		return slices.ContainsFunc(shape.Disks, func(o model.Disk) bool { return o.ID == d.ID })
	}
	return swapped(has(s.Disk.From), has(s.Disk.To))
}

func swapDisk(ctx context.Context, vm VM, s plan.Step, state State) error {
	if vm.Guest == nil {
		return ErrNoAgent
	}
	if state == After {
		return nil
	}
	if err := idle(ctx, vm, s.Disk.From, state == Before); err != nil {
		return err
	}
	if state == Before {
		if err := vm.Port.Plug(ctx, vm.Name, hypervisor.Plug{Disk: &s.Disk.To}); err != nil {
			return err
		}
	}
	// The query waits until the guest has found it.
	if _, err := vm.Guest.Disks(ctx, wire.DiskQuery{Serial: s.Disk.To.Serial, Driver: driver(s.Disk.To.Model)}); err != nil {
		return err
	}
	return vm.Port.Unplug(ctx, vm.Name, s.Disk.From.ID)
}

// idle refuses a disk that the guest has mounted or built upon: taking it away would cost the guest its data. One that must be there
// and that the guest does not know by its serial number may be in use under another; a new one it may not have found yet.
func idle(ctx context.Context, vm VM, d model.Disk, must bool) error {
	disks, err := vm.Guest.Disks(ctx, wire.DiskQuery{Serial: d.Serial})
	if err != nil {
		return err
	}
	if must && len(disks) == 0 {
		return fmt.Errorf("the guest has no disk with serial %s, so nobody can tell whether it is in use: leave its model as it is", d.Serial)
	}
	for _, g := range disks {
		if g.InUse != "" && g.Driver == driver(d.Model) {
			return fmt.Errorf("disk %s with serial %s is in use in the guest (%s): stop using it there, or leave its model as it is", g.Path, d.Serial, g.InUse)
		}
	}
	return nil
}

// driver is what Linux calls the driver of a disk model.
func driver(m string) string {
	switch m {
	case "virtio-blk-pci", "virtio-blk":
		return "virtio_blk"
	case "nvme":
		return "nvme"
	}
	return "sd"
}
