package hw

// Kind of a device.
type Kind string

// What a device can be.
const (
	NIC  Kind = "nic"
	Disk Kind = "disk"
	// Simulated is a device of package hw/sim, which only a development image takes a disk for.
	Simulated Kind = "simulated"
)

// Device is one NIC or disk, or a PCI function that would become one if it were bound.
type Device struct {
	ID       string `json:"id"`    // stable id; equals Place while no driver is bound
	Place    string `json:"place"` // "pci:0000:00:04.0"
	Kind     Kind   `json:"kind"`
	Bus      string `json:"bus"`     // pci, virtio, nvme, scsi, ata, usb, file
	Vendor   string `json:"vendor"`  // PCI vendor id, hex: "1af4"
	Product  string `json:"product"` // PCI device id, hex: "1041"
	Model    string `json:"model"`   // catalogue's or the device's own model name
	Serial   string `json:"serial,omitempty"`
	Firmware string `json:"firmware,omitempty"` // version the device reports
	// FirmwareDigest is the SHA-256 of the firmware in hex, of a device that lets it be read.
	// FirmwareErr says why a device that has readable firmware was not read. Both are set by Bind.
	FirmwareDigest string `json:"firmware_digest,omitempty"`
	FirmwareErr    string `json:"firmware_err,omitempty"`
	// KnownGood says that the catalogue knows this firmware of this model, or that the model has none.
	KnownGood bool   `json:"known_good,omitempty"`
	Driver    string `json:"driver,omitempty"` // bound driver, "" when none
	Node      string `json:"node,omitempty"`   // "/dev/nvme0n1" or link name "eth0"
	MAC       string `json:"mac,omitempty"`
	Size      uint64 `json:"size,omitempty"` // disks, bytes
	// Supported says whether the catalogue knows the device; Why explains when not.
	Supported bool   `json:"supported"`
	Why       string `json:"why,omitempty"`
	// Boot marks the disk the image was booted from.
	Boot bool `json:"boot,omitempty"`
}
