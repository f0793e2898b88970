package wire

import "github.com/ratchetos/ratchet/plugins/migration/model"

// Augmented is the answer to Augment: the capabilities that were asked for, as they are now.
type Augmented struct {
	Capabilities []model.Capability `json:"capabilities"`
}

// NICSwap is the answer to SwapNIC.
type NICSwap struct {
	From string `json:"from"` // interface names
	To   string `json:"to"`
	// Addresses and Routes are what was moved, Neighbours how many of them were known at the other side before.
	Addresses  []string `json:"addresses"`
	Routes     []string `json:"routes"`
	Neighbours int      `json:"neighbours"`
	// Gap is how long neither card had the addresses, in microseconds.
	Gap int64 `json:"gap_us"`
}

// DiskList is the answer to Disks, sorted by path.
type DiskList struct {
	Disks []Disk `json:"disks"`
}

// Disk is a block device of the guest.
type Disk struct {
	Path   string `json:"path"` // "/dev/vda"
	Serial string `json:"serial,omitempty"`
	Driver string `json:"driver"` // "virtio_blk", "nvme", "sd"
	Bytes  uint64 `json:"bytes"`
	// InUse says what holds it, "" for nothing: "mounted at /srv", "held by dm-0", "swap".
	InUse string `json:"in_use,omitempty"`
}
