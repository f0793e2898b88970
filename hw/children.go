package hw

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/hw/disk"
	"github.com/ratchetos/ratchet/hw/nic"
	"github.com/ratchetos/ratchet/hw/pci"
	"github.com/ratchetos/ratchet/hw/sim"
)

// child is a network interface or a whole disk of the kernel.
type child struct {
	kind Kind
	name string // "eth0", "sda"
	path string // below the root: "/sys/devices/pci0000:00/0000:00:04.0/…/block/sda"
}

// children lists what the kernel has made of the PCI functions, by address.
func (s *System) children() map[string][]child {
	found := map[string][]child{}
	for class, kind := range map[string]Kind{"/sys/class/net": NIC, "/sys/block": Disk} {
		entries, err := os.ReadDir(filepath.Join(s.root, class))
		if err != nil {
			continue // none of this kind
		}
		for _, e := range entries {
			link, err := os.Readlink(filepath.Join(s.root, class, e.Name()))
			if err != nil {
				continue
			}
			path := filepath.Join(class, link)
			if s.attribute(path, "hidden") == "1" {
				continue // a path to a multipath namespace (nvme0c0n1): it has no node, and is no disk of its own
			}
			if a := s.functionOf(path); a != "" {
				found[a] = append(found[a], child{kind, e.Name(), path})
			}
		}
	}
	return found
}

// functionOf finds the PCI function that carries a device, "" when none does.
func (s *System) functionOf(path string) string {
	if dir, name, ok := strings.Cut(path, "/nvme-subsystem/"); ok {
		// A multipath namespace hangs below its subsystem, which links to its controllers.
		subsystem, _, _ := strings.Cut(name, "/")
		for _, link := range s.glob(filepath.Join(dir, "nvme-subsystem", subsystem, "nvme[0-9]*")) {
			if target, err := os.Readlink(link); err == nil {
				return lastAddress(target)
			}
		}
		return ""
	}
	return lastAddress(path)
}

// lastAddress is the PCI address nearest to the device: bridges come before it in the path.
func lastAddress(path string) string {
	last := ""
	for part := range strings.SplitSeq(path, "/") {
		if pci.ValidAddress(part) {
			last = part
		}
	}
	return last
}

// readBack makes Devices of a function's children, in a stable order.
func (s *System) readBack(function Device, children []child) []Device {
	slices.SortFunc(children, func(a, b child) int { return cmp.Compare(a.path, b.path) })
	devices := make([]Device, 0, len(children))
	for _, c := range children {
		if c.kind != function.Kind {
			continue
		}
		if c.kind == NIC {
			devices = append(devices, s.readNIC(function, c))
		} else {
			devices = append(devices, s.readDisk(function, c))
		}
	}
	if len(devices) > 1 && function.Kind == NIC {
		for i := range devices { // the ports of one function
			devices[i].Place += "/" + strconv.Itoa(i)
		}
	}
	return devices
}

func (s *System) readNIC(d Device, c child) Device {
	id := nic.Read(filepath.Join(s.root, c.path), c.name, s.live)
	d.Node, d.MAC, d.Firmware = c.name, id.MAC, id.Firmware
	if id.MAC != "" {
		d.ID = "mac:" + id.MAC
	}
	return d
}

func (s *System) readDisk(d Device, c child) Device {
	id := disk.Read(filepath.Join(s.root, c.path))
	d.Node = "/dev/" + c.name
	d.Serial, d.Firmware, d.Size = id.Serial, id.Firmware, id.Size
	if id.Model != "" {
		d.Model = id.Model
	}
	if s.simulated && strings.HasPrefix(d.Serial, sim.SerialPrefix) {
		d.Kind, d.Model = Simulated, "simulated device"
	}
	d.Place += s.position(d.Bus, c)
	d.ID = d.Place
	if ids := id.IDs(); len(ids) > 0 {
		d.ID = ids[0]
	}
	return d
}

// position is where behind its controller a disk is, "" for a controller of one disk.
func (s *System) position(bus string, c child) string {
	parts := strings.Split(c.path, "/")
	switch bus {
	case "nvme":
		if nsid := s.attribute(c.path, "nsid"); nsid != "" {
			return "/" + nsid
		}
		_, n, _ := strings.Cut(strings.TrimPrefix(c.name, "nvme"), "n")
		return "/" + n
	case "ata":
		for _, part := range parts {
			if number, ok := strings.CutPrefix(part, "ata"); ok {
				return "/" + s.ataPort(number)
			}
		}
	case "usb":
		for _, part := range slices.Backward(parts) {
			if _, iface, ok := strings.Cut(part, ":"); ok && strings.Contains(part, "-") && strings.Contains(iface, ".") {
				port, _, _ := strings.Cut(part, ":")
				return "/" + port
			}
		}
	case "scsi":
		for _, part := range slices.Backward(parts) {
			if hctl := strings.Split(part, ":"); len(hctl) == 4 {
				return "/" + strings.Join(hctl[1:], ":") // the host's number is the order of discovery
			}
		}
	}
	return ""
}

// ataPort turns the kernel's running number of a port into the port's number on its controller.
func (s *System) ataPort(number string) string {
	if port := s.attribute("/sys/class/ata_port/ata"+number, "port_no"); port != "" {
		if n, err := strconv.Atoi(port); err == nil && n > 0 {
			return strconv.Itoa(n - 1)
		}
	}
	return number
}
