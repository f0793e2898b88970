// Package plantest has what tests and benches of plans share: a move that can be, and every way found so far to get one
// wrong. It is pure, as package plan is.
package plantest

import (
	"strings"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

const mib = 1 << 20

// Input is a move that can be: a small VM between two hosts alike, with an agent that can do everything.
func Input() plan.Input {
	flags := []string{"apic", "cx8", "fpu", "mmx", "sse", "sse2", "sse3"}
	return plan.Input{
		ID: "m1",
		Shape: model.Shape{
			Version: model.ShapeVersion, VM: "web", UUID: "6c2f4a6e-0d3b-4a54-8a4c-0a1b2c3d4e5f",
			Machine: "pc-i440fx-7.2", Accel: "kvm", CPU: model.CPU{Model: "qemu64", Features: flags},
			VCPUs: 2, MaxVCPUs: 4,
			Memory: model.Memory{
				Boot: 262136 << 10, Max: 4 << 30, Slots: 4,
				VirtioMem: []model.VirtioMem{{ID: "vm0", Max: 1 << 30, Requested: 512 * mib, Block: 2 * mib, Addr: "0x6"}},
			},
			NICs: []model.NIC{{ID: "n0", Model: "virtio-net-pci", MAC: "52:54:00:00:00:01", Network: "lan", Addr: "0x3"}},
			Disks: []model.Disk{{
				ID: "d0", Model: "virtio-blk-pci", Serial: "root", Size: 1 << 30, Addr: "0x4",
				Source: model.Source{Volume: &model.Volume{Name: "web-root", Server: "tcp:192.0.2.1:10809"}},
			}},
			Others: []model.Device{{ID: "vs0", Args: "virtio-serial-pci,id=vs0,bus=pci.0,addr=0x2"}, {ID: "scsi0", Args: "virtio-scsi-pci,id=scsi0,bus=pci.0,addr=7"}},
		},
		Source: host("rack1", flags),
		Target: host("rack2", flags),
		Guest: &model.Guest{
			Agent: "1", BootID: "b", CPUs: 2, Present: 2,
			NICs: []model.GuestNIC{{Name: "eth0", MAC: "52:54:00:00:00:01", Driver: "virtio_net", Carrier: true}},
			Can: []model.Capability{
				{Name: model.CanCPUHotplug, State: model.Ready},
				{Name: model.CanCPUUnplug, State: model.Ready},
				{Name: model.CanDIMM, State: model.Ready},
				{Name: model.CanVirtioMem, State: model.Ready},
				{Name: model.CanMoveNIC, State: model.Ready},
				{Name: model.CanMoveDisk, State: model.Ready},
				{Name: model.CanDriver + "e1000", State: model.CanBeGiven, Detail: "module e1000"},
				{Name: model.CanDriver + "virtio-net-pci", State: model.Ready},
				{Name: model.CanDriver + "scsi-hd", State: model.Ready},
				{Name: model.CanDriver + "virtio-blk-pci", State: model.Ready},
				{Name: model.CanDriver + "e1000e", State: model.Missing, Detail: "no module in /lib/modules"},
			},
		},
	}
}

func host(name string, flags []string) model.Host {
	return model.Host{
		Name: name, Hypervisor: "QEMU 7.2.22", Accels: []string{"kvm", "tcg"}, Machines: []string{"pc-i440fx-7.2", "pc-q35-7.2"},
		CPUs: []model.CPU{
			{Model: "qemu64", Features: flags},
			{Model: "wide", Features: append(strings.Fields("aes avx"), flags...)},
			{Model: "narrow", Features: flags[:4]},
		},
		Devices:  []string{"virtio-net-pci", "e1000", "e1000e", "virtio-blk-pci", "scsi-hd", "pc-dimm", "virtio-mem-pci", "virtio-scsi-pci", "virtio-serial-pci"},
		Networks: []string{"lan"}, FreeVCPUs: 16, MaxVCPUs: 64, FreeMemory: 64 << 30, PostCopy: true, TLS: true,
	}
}

// Retype is the type that uses every kind of step: smaller here, larger there.
func Retype() model.VMType {
	return model.VMType{Name: "large", VCPUs: 4, Memory: strict.Size(1280 * mib), CPU: "wide", NIC: "e1000", Disk: "scsi-hd"}
}
