package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// RAM of a guest, in bytes: 262136 KiB, which is not a multiple of 256 KiB.
const RAM = 262136 << 10

// bounce are the slots of 2 KiB that the kernel keeps below 4 GiB for cards that reach no further. Since memory can be added
// above, it would take 64 MiB of its own accord, a quarter of the guest.
const bounce = "2048"

// Addresses of the cards of a guest.
const (
	MAC       = "52:54:00:4c:41:42"
	SecondMAC = "52:54:00:4c:41:43"
)

// Network is the one segment that hosts of a lab have.
const Network = "lan"

// Channels of a guest, by the names of their sockets.
const (
	agentChannel   = "agent"
	labChannel     = "lab"
	consoleChannel = "serial-console" // logged, as all that begin with serial
)

// Shape is that of a guest with one of up to four vCPUs, room for DIMMs and virtio-mem, and one virtio card.
func (i Image) Shape(vm string) model.Shape {
	return model.Shape{
		Version: model.ShapeVersion, VM: vm, Machine: "pc-i440fx-7.2", Accel: "tcg", CPU: model.CPU{Model: "qemu64"},
		VCPUs: 1, MaxVCPUs: 4,
		Memory: model.Memory{Boot: RAM, Max: 2 << 30, Slots: 4},
		NICs:   []model.NIC{{ID: "nic0", Model: "virtio-net-pci", MAC: MAC, Network: Network, Bus: "pci.0", Addr: "0x3"}},
		Others: []model.Device{
			{ID: "serial0", Args: "virtio-serial-pci,id=serial0,bus=pci.0,addr=0x2"},
			{ID: "agent", Args: "virtserialport,id=agent,bus=serial0.0,nr=1,chardev=" + agentChannel + ",name=" + wire.Port},
			{ID: "lab", Args: "virtserialport,id=lab,bus=serial0.0,nr=2,chardev=" + labChannel + ",name=" + load.Port},
			{ID: "console", Args: "isa-serial,id=console,chardev=" + consoleChannel},
		},
		Boot: model.Boot{Kernel: i.Kernel, Initrd: i.Initrd, Append: "console=ttyS0 quiet panic=-1 swiotlb=" + bounce},
	}
}

// DiskSize is that of a Disk, in bytes.
const DiskSize = 16 << 20

// Disk is one for guests that shall share a saved state with all others that have it.
func Disk(s model.Source) model.Disk {
	return model.Disk{ID: "disk0", Model: "virtio-blk-pci", Serial: "disk0", Size: DiskSize, Source: s, Bus: "pci.0", Addr: "0x4"}
}

// stateKey names what a saved state depends on: everything but names and where bytes come from. A virtio disk is asked for
// its serial number each time somebody reads it.
func stateKey(s model.Shape, image, qemu string) string {
	s.VM, s.UUID = "", ""
	s.Boot.Kernel, s.Boot.Initrd = image, ""
	s.Disks = slices.Clone(s.Disks)
	for i := range s.Disks {
		s.Disks[i].Source, s.Disks[i].Serial = model.Source{}, ""
	}
	text, _ := json.Marshal(s) // plain data: cannot fail
	sum := sha256.Sum256(append(text, qemu...))
	return hex.EncodeToString(sum[:12])
}
