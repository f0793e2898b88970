package vmhost

import (
	"context"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// lookLimit is how long a monitor may take before the list goes on without it.
const lookLimit = 2 * time.Second

// List is what the host has. A VM whose monitor does not answer is in it with the state Unknown.
func (h *Host) List(ctx context.Context) ([]client.VM, error) {
	list := []client.VM{}
	for _, m := range h.machines() {
		r := m.record()
		vm := client.VM{Move: r.Move, VM: hypervisor.VM{
			Name: m.name, UUID: r.Shape.UUID, State: hypervisor.Unknown, VCPUs: r.Shape.VCPUs, MaxVCPUs: r.Shape.MaxVCPUs, Memory: r.Shape.Memory.Total(),
		}}
		if c, err := m.qmp(); err == nil {
			vm.Hypervisor = c.Version()
			look, cancel := context.WithTimeout(ctx, lookLimit)
			if state, detail, err := qmp.Status(look, c.Do); err == nil {
				vm.State, vm.Detail = state, detail
			}
			cancel()
		}
		vm.Devices = known(r.Shape)
		list = append(list, vm)
	}
	return list, nil
}

// known are the devices of a shape.
func known(s model.Shape) []hypervisor.Device {
	var list []hypervisor.Device
	for _, n := range s.NICs {
		list = append(list, hypervisor.Device{ID: n.ID, Model: n.Model, Kind: hypervisor.NIC})
	}
	for _, d := range s.Disks {
		backing := d.Source.Local
		if v := d.Source.Volume; v != nil {
			backing = v.Name + " at " + v.Server
		}
		list = append(list, hypervisor.Device{ID: d.ID, Model: d.Model, Kind: hypervisor.Disk, Backing: backing})
	}
	for _, d := range s.Memory.DIMMs {
		list = append(list, hypervisor.Device{ID: d.ID, Model: "pc-dimm", Kind: hypervisor.DIMM})
	}
	for _, d := range s.Memory.VirtioMem {
		list = append(list, hypervisor.Device{ID: d.ID, Model: "virtio-mem-pci", Kind: hypervisor.DIMM})
	}
	return list
}

// Shape is that of a VM as it is now. That of a destination is the one it was started as.
func (h *Host) Shape(ctx context.Context, vm string) (model.Shape, error) {
	m, err := h.machine(vm)
	if err != nil {
		return model.Shape{}, err
	}
	if r := m.record(); r.Move != "" {
		return r.Shape, nil
	}
	return m.describe(ctx)
}
