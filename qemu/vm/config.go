package vm

import (
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// Config describes a machine. The zero value of every field but Firmware works.
type Config struct {
	// Name stands in errors and in QEMU's process title; "vm" if empty.
	Name string
	// Dir keeps console.log, qemu.log and vars.fd (the UEFI variables). Empty means a temporary folder that
	// Close removes.
	Dir string
	// Memory as QEMU's -m takes it, "1024M" if empty.
	Memory string
	// CPUs is the number of virtual CPUs, 2 if zero.
	CPUs int
	// Firmware says how the machine starts: Direct or UEFI.
	Firmware Firmware
	Disks    []Disk
	NICs     []NIC
	// TPM is nil for a machine without one.
	TPM *TPM
	// NoReboot ends QEMU when the guest resets, for guests that must not come back.
	NoReboot bool
	// Limit ends the machine whatever else happens; 15 minutes if zero. An interactive machine wants more.
	Limit time.Duration
	// ExtraArgs are appended to QEMU's command line as they are.
	ExtraArgs []string
	// Stdout gets a raw copy of the console, for a terminal. It must not block for long.
	Stdout io.Writer
}

// Firmware is Direct or UEFI.
type Firmware interface{ firmware() }

// Direct loads a kernel without firmware of its own (SeaBIOS hands over), unpacked if it has an entry for that. It is
// many times cheaper than UEFI under emulation and right for everything that is not about booting.
type Direct struct {
	Kernel, Initrd string
	// Cmdline is "console=ttyS0 quiet panic=-1" if empty.
	Cmdline string
}

// UEFI boots from the disks as hardware does. Variables live in Config.Dir/vars.fd: made on the first boot,
// kept on later ones.
type UEFI struct {
	// SecureBoot enrols Cert as the only key and turns verification on.
	SecureBoot bool
	// Cert is a PEM certificate; needed with SecureBoot, unless SetupMode.
	Cert []byte
	// SetupMode starts a new machine with SecureBoot's firmware but without any key: it takes some and
	// runs everything until then.
	SetupMode bool
}

func (Direct) firmware() {}
func (UEFI) firmware()   {}

// Disk is a disk of the machine, backed by a file or block device.
type Disk struct {
	Path string
	// Model is virtio-blk (if empty), virtio-scsi, nvme, ahci, megasas or usb.
	Model string
	// Serial is what the guest reads; "diskN" by position if empty.
	Serial   string
	ReadOnly bool
	// Snapshot keeps the guest's writes in a temporary file that ends with the machine.
	Snapshot bool
	// Format is raw if empty.
	Format string
}

// NIC is a network interface of the machine.
type NIC struct {
	// Model is virtio-net (if empty), e1000, e1000e, vmxnet3 or rtl8139.
	Model string
	// MAC is 52:54:00:52:00:NN by position if empty.
	MAC string
	// Net says what the NIC is plugged into: User, Hub, Tap or None (also if nil).
	Net Net
}

// Net is User, Hub, Tap or None.
type Net interface{ network() }

// User is a network of its own behind address translation in QEMU: DHCP, DNS, the host at .2, no privileges.
// The Nth such NIC of a machine, counted from zero, is in 10.0.(2+N).0/24, so that routes do not collide.
type User struct {
	Forwards []Forward
	// Restrict cuts the guest off from the host and the world; forwards still work.
	Restrict bool
}

// Forward makes a TCP port of the guest reachable on 127.0.0.1.
type Forward struct {
	// Host is the port on the host; zero, the usual case, lets the kernel choose a free one.
	Host int
	// Guest is the port in the guest.
	Guest int
}

// Hub joins NICs of the same machine on one segment, as a switch between them would. Hubs with different
// numbers are different segments.
type Hub struct{ N int }

// Tap plugs the NIC into a tap device of the host, wherever that is: the device belongs to the namespace in which it was
// made, QEMU only gets its descriptor and needs no privileges.
type Tap struct {
	// File is /dev/net/tun after TUNSETIFF, without IFF_VNET_HDR. It is duplicated for QEMU; the caller closes it.
	File *os.File
}

// None leaves the NIC without a cable.
type None struct{}

func (User) network() {}
func (Hub) network()  {}
func (Tap) network()  {}
func (None) network() {}

// withDefaults fills in what was left empty. It does not change the caller's slices.
func (c Config) withDefaults() Config {
	c.Name = or(c.Name, "vm")
	c.Memory = or(c.Memory, "1024M")
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Limit == 0 {
		c.Limit = 15 * time.Minute
	}
	if d, ok := c.Firmware.(Direct); ok {
		d.Cmdline = or(d.Cmdline, "console=ttyS0 quiet panic=-1")
		c.Firmware = d
	}
	c.Disks = slices.Clone(c.Disks)
	for i := range c.Disks {
		d := &c.Disks[i]
		d.Model = or(d.Model, "virtio-blk")
		d.Format = or(d.Format, "raw")
		d.Serial = or(d.Serial, fmt.Sprintf("disk%d", i))
	}
	c.NICs = slices.Clone(c.NICs)
	for i := range c.NICs {
		n := &c.NICs[i]
		n.Model = or(n.Model, "virtio-net")
		n.MAC = or(n.MAC, fmt.Sprintf("52:54:00:52:00:%02x", i))
		if n.Net == nil {
			n.Net = None{}
		}
	}
	return c
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// check refuses what QEMU would refuse later with less to go by. It expects defaults filled in.
func (c Config) check() error {
	switch f := c.Firmware.(type) {
	case nil:
		return fmt.Errorf("no firmware: set Config.Firmware to vm.Direct or vm.UEFI")
	case Direct:
		if f.Kernel == "" {
			return fmt.Errorf("direct boot without a kernel")
		}
	case UEFI:
		if f.SecureBoot && !f.SetupMode && len(f.Cert) == 0 {
			return fmt.Errorf("secure boot without a certificate to enrol")
		}
	}
	if strings.ContainsAny(c.Name, ",/\x00") {
		return fmt.Errorf("name %q has a comma or slash", c.Name)
	}
	for i, d := range c.Disks {
		if d.Path == "" {
			return fmt.Errorf("disk %d has no path", i)
		}
		if _, ok := diskDevices[d.Model]; !ok {
			return fmt.Errorf("disk %d: unknown model %q", i, d.Model)
		}
	}
	for i, n := range c.NICs {
		if _, ok := nicDevices[n.Model]; !ok {
			return fmt.Errorf("NIC %d: unknown model %q", i, n.Model)
		}
		if mac, err := net.ParseMAC(n.MAC); err != nil || len(mac) != 6 {
			return fmt.Errorf("NIC %d: %q is not a MAC address", i, n.MAC)
		}
		if tap, ok := n.Net.(Tap); ok && tap.File == nil {
			return fmt.Errorf("NIC %d: a tap without its file", i)
		}
		user, _ := n.Net.(User)
		for _, f := range user.Forwards {
			if f.Guest < 1 || f.Guest > 65535 || f.Host < 0 || f.Host > 65535 {
				return fmt.Errorf("NIC %d: forward %d to %d is not a pair of ports", i, f.Host, f.Guest)
			}
		}
	}
	if c.TPM != nil && c.TPM.Dir == "" {
		return fmt.Errorf("TPM without a folder for its state")
	}
	return nil
}
