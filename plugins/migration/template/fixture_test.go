package template

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

const mib = 1 << 20

// world has VMs web-1 … web-4 on rack1, db-1 and db-2 on rack2, and two empty hosts of other sizes.
func world() Inventory {
	inv := Inventory{Hosts: []model.Host{host("rack1", 1), host("rack2", 1), host("rack3", 8), host("rack4", 4)}}
	for i := range 4 {
		inv.VMs = append(inv.VMs, vm(fmt.Sprintf("web-%d", i+1), "rack1", map[string]string{"tier": "front"}))
	}
	for i := range 2 {
		inv.VMs = append(inv.VMs, vm(fmt.Sprintf("db-%d", i+1), "rack2", map[string]string{"tier": "back", "site": "a"}))
	}
	return inv
}

var flags = []string{"fpu", "sse", "sse2"}

func host(name string, gib uint64) model.Host {
	return model.Host{
		Name: name, Hypervisor: "QEMU 7.2.22", Accels: []string{"kvm"}, Machines: []string{"pc-i440fx-7.2"},
		CPUs:    []model.CPU{{Model: "qemu64", Features: flags}},
		Devices: []string{"virtio-net-pci", "e1000", "virtio-mem-pci", "pc-dimm"}, Networks: []string{"lan"},
		FreeVCPUs: 16, MaxVCPUs: 16, FreeMemory: gib << 30, PostCopy: true, TLS: true,
	}
}

func vm(name, on string, labels map[string]string) VM {
	mac := "52:54:00:00:00:01"
	return VM{
		Name: name, Host: on, Labels: labels,
		Shape: model.Shape{
			Version: model.ShapeVersion, VM: name, UUID: "uuid-of-" + name, Machine: "pc-i440fx-7.2", Accel: "kvm",
			CPU: model.CPU{Model: "qemu64", Features: flags}, VCPUs: 1, MaxVCPUs: 4,
			Memory: model.Memory{Boot: 512 * mib, Max: 4 << 30, VirtioMem: []model.VirtioMem{{ID: "vm0", Max: 1 << 30, Addr: "0x5"}}},
			NICs:   []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: mac, Network: "lan", Addr: "0x3"}},
		},
		Guest: &model.Guest{
			CPUs: 1, Present: 1, NICs: []model.GuestNIC{{MAC: mac}},
			Can: []model.Capability{
				{Name: model.CanCPUHotplug, State: model.Ready},
				{Name: model.CanCPUUnplug, State: model.Ready},
				{Name: model.CanVirtioMem, State: model.Ready},
				{Name: model.CanMoveNIC, State: model.Ready},
				{Name: model.CanDriver + "virtio-net-pci", State: model.Ready},
				{Name: model.CanDriver + "e1000", State: model.CanBeGiven},
			},
		},
	}
}
