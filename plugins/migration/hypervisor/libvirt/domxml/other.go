package domxml

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// drivers are QEMU's devices for elements that a plan leaves alone, by the element's name and the attribute that says which.
// "" is a part of the board, or nothing at all in the guest, and needs no word in a Shape.
var drivers = map[string]map[string]string{
	"controller": {
		"pci pci-root": "", "pci pcie-root": "", "pci pcie-root-port": "pcie-root-port", "pci pci-bridge": "pci-bridge",
		"pci pcie-to-pci-bridge": "pcie-pci-bridge", "pci dmi-to-pci-bridge": "i82801b11-bridge",
		"ide ": "", "ide piix3": "", "fdc ": "isa-fdc", "sata ": "ich9-ahci",
		"usb piix3-uhci": "piix3-usb-uhci", "usb piix4-uhci": "piix4-usb-uhci", "usb ehci": "usb-ehci", "usb nec-xhci": "nec-usb-xhci",
		"usb qemu-xhci": "qemu-xhci", "usb none": "", "usb ich9-ehci1": "ich9-usb-ehci1", "usb ich9-uhci1": "ich9-usb-uhci1",
		"usb ich9-uhci2": "ich9-usb-uhci2", "usb ich9-uhci3": "ich9-usb-uhci3",
		"virtio-serial ": "virtio-serial-pci", "virtio-serial virtio": "virtio-serial-pci",
		"scsi virtio-scsi": "virtio-scsi-pci", "scsi lsilogic": "lsi53c895a",
	},
	"disk":       {"cdrom ide": "ide-cd", "cdrom sata": "ide-cd", "cdrom scsi": "scsi-cd", "cdrom usb": "usb-storage", "floppy fdc": "floppy"},
	"serial":     {"isa-serial": "isa-serial", "pci-serial": "pci-serial", "usb-serial": "usb-serial"},
	"parallel":   {"": "isa-parallel"},
	"console":    {"serial": "", "virtio": "virtconsole"},
	"channel":    {"virtio": "virtserialport"},
	"input":      {"ps2": "", "usb tablet": "usb-tablet", "usb mouse": "usb-mouse", "usb keyboard": "usb-kbd", "virtio tablet": "virtio-tablet-pci", "virtio keyboard": "virtio-keyboard-pci", "virtio mouse": "virtio-mouse-pci"},
	"graphics":   {"": ""},
	"audio":      {"": ""},
	"hub":        {"": "usb-hub"},
	"video":      {"none": "", "vga": "VGA", "cirrus": "cirrus-vga", "qxl": "qxl-vga", "virtio": "virtio-vga", "bochs": "bochs-display", "ramfb": "ramfb", "vmvga": "vmware-svga"},
	"sound":      {"ich6": "intel-hda", "ich9": "ich9-intel-hda", "ac97": "AC97", "es1370": "ES1370", "sb16": "sb16", "usb": "usb-audio"},
	"watchdog":   {"i6300esb": "i6300esb", "ib700": "ib700", "itco": ""},
	"memballoon": {"none": "", "virtio": "virtio-balloon-pci"},
	"rng":        {"virtio": "virtio-rng-pci"},
	"tpm":        {"tpm-tis": "tpm-tis", "tpm-crb": "tpm-crb"},
	"panic":      {"isa": "pvpanic", "pvpanic": "pvpanic-pci"},
	"iommu":      {"intel": "intel-iommu", "virtio": "virtio-iommu-pci"},
}

// which is the key of an element in drivers.
func which(d *Node) string {
	switch d.Name {
	case "controller":
		return d.Attr("type") + " " + d.Attr("model")
	case "disk":
		return d.Attr("device") + " " + d.Get("target").Attr("bus")
	case "serial":
		return d.Get("target", "model").Attr("name")
	case "console", "channel":
		return d.Get("target").Attr("type")
	case "input":
		if d.Attr("bus") == "ps2" {
			return "ps2"
		}
		return d.Attr("bus") + " " + d.Attr("type")
	case "video":
		return d.Get("model").Attr("type")
	case "graphics", "audio", "hub", "parallel":
		return ""
	}
	return d.Attr("model")
}

// readOther reads an element that stays as it is. Its Args are what QEMU's -device would be told first of all; the element
// itself travels in the XML.
func readOther(d *Node, s *model.Shape) error {
	driver, ok := drivers[d.Name][which(d)]
	if !ok {
		return fmt.Errorf("<%s> %s: no word for it in the record of a VM, so it cannot move; detach it first", d.Name, which(d))
	}
	if driver == "" {
		return nil
	}
	bus, addr, err := pciOf(d, s.Machine)
	if err != nil {
		return err
	}
	args := driver
	if bus != "" {
		args += ",bus=" + bus + ",addr=" + addr
	}
	if name := d.Get("target").Attr("name"); name != "" && d.Name == "channel" {
		args += ",name=" + name
	}
	s.Others = append(s.Others, model.Device{ID: idOf(d), Args: args})
	return nil
}

// Drivers are all devices that ShapeOf has a word for. That a host's emulator has one as well is found out by libvirt when
// it starts the destination, before a byte is sent.
func Drivers() []string {
	list := []string{"virtio-net-pci", "virtio-net-pci-transitional", "virtio-net-pci-non-transitional", "e1000", "e1000e", "rtl8139", "vmxnet3",
		"virtio-blk-pci", "scsi-hd", "ide-hd", "usb-storage", "pc-dimm", "virtio-mem-pci"}
	for _, byName := range drivers {
		for _, driver := range byName {
			if driver != "" {
				list = append(list, driver)
			}
		}
	}
	return list
}
