package model

import "github.com/ratchetos/ratchet/core/config/strict"

// VMType is what a VM shall become. Whatever is left out stays as the VM has it, so the zero VMType is a plain move.
type VMType struct {
	Name   string      `json:"name,omitempty" jsonschema:"description=name of the type, shown with the VMs that have it"`
	VCPUs  int         `json:"vcpus,omitempty" config:"min=0,max=4096" jsonschema:"description=processors; at most what the VM was first started for"`
	Memory strict.Size `json:"memory,omitempty" jsonschema:"description=memory in all; never below what the VM was started with"`
	CPU    string      `json:"cpu,omitempty" jsonschema:"description=CPU model, as Haswell-noTSX; it must have all flags the guest has seen"`
	NIC    string      `json:"nic,omitempty" jsonschema:"description=model of all network cards, as virtio-net-pci or e1000"`
	Disk   string      `json:"disk,omitempty" jsonschema:"description=model of all disks, virtio-blk-pci or scsi-hd; only those change that nothing in the guest uses"`
	// Require is checked and never changed.
	Require Constraints `json:"require" jsonschema:"description=what a VM must have already, because a move does not change it"`
}

// Constraints are what a VM must be like already: what a move cannot change. Empty fields ask for nothing.
type Constraints struct {
	Machine  string   `json:"machine,omitempty" jsonschema:"description=exact board, as pc-i440fx-7.2"`
	Accel    string   `json:"accel,omitempty" config:"enum=kvm|tcg" jsonschema:"description=kvm or tcg"`
	Features []string `json:"features,omitempty" config:"max=256" jsonschema:"description=CPU flags that the target must offer"`
}
