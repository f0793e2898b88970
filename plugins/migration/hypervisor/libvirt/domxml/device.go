package domxml

import (
	"fmt"
	"net"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// readDevice reads one element of <devices>.
func readDevice(d *Node, s *model.Shape, nets Networks) error {
	switch d.Name {
	case "interface":
		return readNIC(d, s, nets)
	case "disk":
		if isDisk(d) {
			return readDisk(d, s)
		}
	case "memory", "emulator":
		return nil // read before, or the host's
	case "hostdev", "redirdev", "shmem", "filesystem", "lease", "nvram", "smartcard", "vsock":
		return fmt.Errorf("<%s>: it is tied to its host and cannot move; detach it first", d.Name)
	}
	return readOther(d, s)
}

// isDisk tells hard disks from drives for media.
func isDisk(d *Node) bool {
	return d.Name == "disk" && (d.Attr("device") == "disk" || d.Attr("device") == "")
}

// nicModels are QEMU's names for models of libvirt that have another one.
var nicModels = table{
	{"virtio", "virtio-net-pci"},
	{"virtio-transitional", "virtio-net-pci-transitional"},
	{"virtio-non-transitional", "virtio-net-pci-non-transitional"},
}

func readNIC(d *Node, s *model.Shape, nets Networks) (err error) {
	nic := model.NIC{ID: idOf(d), MAC: d.Get("mac").Attr("address"), Model: d.Get("model").Attr("type")}
	nic.Model = orElse(nicModels.value(nic.Model), nic.Model)
	if nic.Network, err = nets.name(d); err != nil {
		return err
	}
	if nic.Bus, nic.Addr, err = pciOf(d, s.Machine); err != nil {
		return err
	}
	s.NICs = append(s.NICs, nic)
	return nil
}

// diskModels are QEMU's devices by the bus of a disk. Of two for one device the first is built.
var diskModels = table{{"virtio", "virtio-blk-pci"}, {"scsi", "scsi-hd"}, {"sata", "ide-hd"}, {"ide", "ide-hd"}, {"usb", "usb-storage"}}

func readDisk(d *Node, s *model.Shape) (err error) {
	target := d.Get("target")
	disk := model.Disk{ID: idOf(d), Model: diskModels.value(target.Attr("bus")), Serial: d.Get("serial").Content()}
	name := target.Attr("dev")
	if disk.Model == "" {
		return fmt.Errorf("<disk> %s: no model for the bus %q", name, target.Attr("bus"))
	}
	if format := d.Get("driver").Attr("type"); format != "raw" {
		return fmt.Errorf("<disk> %s: format %s: only raw disks can move, others write metadata after the switch", name, format)
	}
	if d.Get("backingStore", "format") != nil || d.Get("mirror") != nil || d.Get("transient") != nil || d.Get("encryption") != nil {
		return fmt.Errorf("<disk> %s: a backing store, mirror, transient overlay or encryption cannot move", name)
	}
	if disk.Source, err = readSource(d); err != nil {
		return fmt.Errorf("<disk> %s: %w", name, err)
	}
	if disk.Bus, disk.Addr, err = pciOf(d, s.Machine); err != nil {
		return err
	}
	s.Disks = append(s.Disks, disk)
	return nil
}

func readSource(d *Node) (model.Source, error) {
	source := d.Get("source")
	switch d.Attr("type") {
	case "file":
		return model.Source{Local: source.Attr("file")}, nil
	case "block":
		return model.Source{Local: source.Attr("dev")}, nil
	case "network":
		if source.Attr("protocol") != "nbd" {
			return model.Source{}, fmt.Errorf("<source protocol=%q>: of network disks only NBD can move", source.Attr("protocol"))
		}
		host := source.Get("host")
		server := "tcp:" + net.JoinHostPort(host.Attr("name"), orElse(host.Attr("port"), "10809"))
		if host.Attr("transport") == "unix" {
			server = "unix:" + host.Attr("socket")
		}
		return model.Source{Volume: &model.Volume{Name: source.Attr("name"), Server: server}}, nil
	}
	return model.Source{}, fmt.Errorf("type=%q: only file, block and network (NBD) can move", d.Attr("type"))
}

// sourceOf is the inverse of readSource: the disk's type and its <source>.
func sourceOf(s model.Source) (kind string, source *Node, err error) {
	switch {
	case (s.Local == "") == (s.Volume == nil):
		return "", nil, fmt.Errorf("a disk has no source, or two")
	case s.Local != "" && strings.HasPrefix(s.Local, "/dev/"):
		return "block", New("source", "dev", s.Local), nil
	case s.Local != "":
		return "file", New("source", "file", s.Local), nil
	}
	network, address, _ := strings.Cut(s.Volume.Server, ":")
	host := New("host", "transport", network, "socket", address)
	if network == "tcp" {
		name, port, err := net.SplitHostPort(address)
		if err != nil {
			return "", nil, fmt.Errorf("volume %s: server %q: %w", s.Volume.Name, s.Volume.Server, err)
		}
		host = New("host", "name", name, "port", port)
	}
	return "network", New("source", "protocol", "nbd", "name", s.Volume.Name).With(host), nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
