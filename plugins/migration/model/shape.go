package model

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// ShapeVersion is the format of the Shapes written here.
const ShapeVersion = 1

// Shape is the boot-state record of a VM: the board, and what is plugged into it now.
type Shape struct {
	Version int    `json:"version"`
	VM      string `json:"vm"`
	UUID    string `json:"uuid,omitempty"`
	// Machine is the exact, versioned board, as "pc-i440fx-7.2": an alias such as "pc" means another one after an upgrade.
	Machine string `json:"machine"`
	Accel   string `json:"accel"` // "kvm" or "tcg"
	CPU     CPU    `json:"cpu"`
	// VCPUs are plugged now; MaxVCPUs were decided when the VM was first started and stay for its life.
	VCPUs    int    `json:"vcpus"`
	MaxVCPUs int    `json:"max_vcpus"`
	Memory   Memory `json:"memory"`
	NICs     []NIC  `json:"nics,omitempty"`
	Disks    []Disk `json:"disks,omitempty"`
	// Others are the devices that a plan leaves where they are, the agent's channel among them.
	Others []Device `json:"others,omitempty"`
	Boot   Boot     `json:"boot"`
}

// CPU is the processor the guest sees.
type CPU struct {
	Model string `json:"model"` // "qemu64", "Haswell-noTSX", "host"
	// Features are all flags in force, by QEMU's names, sorted. Empty is not known.
	Features []string `json:"features,omitempty"`
}

// Memory is in bytes throughout.
type Memory struct {
	Boot  uint64 `json:"boot"`          // what the VM was started with
	Max   uint64 `json:"max,omitempty"` // ceiling of Boot and everything plugged; 0 without hotplug
	Slots int    `json:"slots,omitempty"`
	// DIMMs and VirtioMem are plugged on top of Boot.
	DIMMs     []DIMM      `json:"dimms,omitempty"`
	VirtioMem []VirtioMem `json:"virtio_mem,omitempty"`
}

// Total is what the guest has now.
func (m Memory) Total() uint64 {
	n := m.Boot
	for _, d := range m.DIMMs {
		n += d.Size
	}
	for _, v := range m.VirtioMem {
		n += v.Requested
	}
	return n
}

// DIMM is a plugged module.
type DIMM struct {
	ID   string `json:"id"`
	Size uint64 `json:"size"`
	Slot int    `json:"slot"`
	Addr uint64 `json:"addr,omitempty"` // guest-physical; 0 lets QEMU choose
}

// VirtioMem is a device whose size changes while the guest runs.
type VirtioMem struct {
	ID        string `json:"id"`
	Max       uint64 `json:"max"`       // size of its region
	Requested uint64 `json:"requested"` // what it shall offer
	Block     uint64 `json:"block,omitempty"`
	Bus       string `json:"bus,omitempty"`
	Addr      string `json:"addr,omitempty"`
}

// NIC is a network card. Network names the segment, which each host maps to what it has.
type NIC struct {
	ID      string `json:"id"`
	Model   string `json:"model"` // "virtio-net-pci", "e1000"
	MAC     string `json:"mac"`
	Network string `json:"network"`
	Bus     string `json:"bus,omitempty"`
	Addr    string `json:"addr,omitempty"` // PCI address on its bus, "0x3"
}

// Disk is a block device. Its format is raw: formats with metadata of their own write after the switch (invariant M1).
type Disk struct {
	ID     string `json:"id"`
	Model  string `json:"model"` // "virtio-blk-pci", "scsi-hd", "nvme"
	Serial string `json:"serial,omitempty"`
	Size   uint64 `json:"size"`
	Source Source `json:"source"`
	Bus    string `json:"bus,omitempty"`
	Addr   string `json:"addr,omitempty"`
}

// Source is where a disk's bytes are: exactly one of the two.
type Source struct {
	Volume *Volume `json:"volume,omitempty"` // shared: handed over
	Local  string  `json:"local,omitempty"`  // a path on the host: mirrored
}

// Volume is a gateway's volume, reached over NBD. Each host attaches under its own identity, which the gateway lets
// write or not (invariant S15).
type Volume struct {
	Name string `json:"name"`
	// Server is what NBD clients connect to: "tcp:HOST:PORT" or "unix:/path".
	Server string `json:"server"`
}

// Device is one that a plan leaves alone. Args is QEMU's -device value with id and address.
type Device struct {
	ID   string `json:"id"`
	Args string `json:"args"`
}

// Boot is how the VM starts its first instruction. All empty boots from the first disk.
type Boot struct {
	Kernel   string `json:"kernel,omitempty"`
	Initrd   string `json:"initrd,omitempty"`
	Append   string `json:"append,omitempty"`
	Firmware string `json:"firmware,omitempty"`
}

// Digest identifies what both sides must agree on: the whole Shape.
func (s Shape) Digest() string {
	text, _ := json.Marshal(s) // plain data: cannot fail
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
