package domxml

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// drivers are QEMU's devices for elements that a plan leaves alone, by the element's name and what which says of it. "" is a
// part of the board, or nothing at all in the guest, and needs no word in a Shape.
var drivers = []struct{ element, which, driver string }{
	{"controller", "pci pci-root", ""},
	{"controller", "pci pcie-root", ""},
	{"controller", "pci pcie-root-port", "pcie-root-port"},
	{"controller", "pci pci-bridge", "pci-bridge"},
	{"controller", "pci pcie-to-pci-bridge", "pcie-pci-bridge"},
	{"controller", "pci dmi-to-pci-bridge", "i82801b11-bridge"},
	{"controller", "ide ", ""},
	{"controller", "ide piix3", ""},
	{"controller", "fdc ", "isa-fdc"},
	{"controller", "sata ", "ich9-ahci"},
	{"controller", "usb piix3-uhci", "piix3-usb-uhci"},
	{"controller", "usb piix4-uhci", "piix4-usb-uhci"},
	{"controller", "usb ehci", "usb-ehci"},
	{"controller", "usb nec-xhci", "nec-usb-xhci"},
	{"controller", "usb qemu-xhci", "qemu-xhci"},
	{"controller", "usb none", ""},
	{"controller", "usb ich9-ehci1", "ich9-usb-ehci1"},
	{"controller", "usb ich9-uhci1", "ich9-usb-uhci1"},
	{"controller", "usb ich9-uhci2", "ich9-usb-uhci2"},
	{"controller", "usb ich9-uhci3", "ich9-usb-uhci3"},
	{"controller", "virtio-serial ", "virtio-serial-pci"},
	{"controller", "virtio-serial virtio", "virtio-serial-pci"},
	{"controller", "scsi virtio-scsi", "virtio-scsi-pci"},
	{"controller", "scsi lsilogic", "lsi53c895a"},
	{"disk", "cdrom ide", "ide-cd"},
	{"disk", "cdrom sata", "ide-cd"},
	{"disk", "cdrom scsi", "scsi-cd"},
	{"disk", "cdrom usb", "usb-storage"},
	{"disk", "floppy fdc", "floppy"},
	{"serial", "isa-serial", "isa-serial"},
	{"serial", "pci-serial", "pci-serial"},
	{"serial", "usb-serial", "usb-serial"},
	{"parallel", "", "isa-parallel"},
	{"console", "serial", ""},
	{"console", "virtio", "virtconsole"},
	{"channel", "virtio", "virtserialport"},
	{"input", "ps2", ""},
	{"input", "usb tablet", "usb-tablet"},
	{"input", "usb mouse", "usb-mouse"},
	{"input", "usb keyboard", "usb-kbd"},
	{"input", "virtio tablet", "virtio-tablet-pci"},
	{"input", "virtio keyboard", "virtio-keyboard-pci"},
	{"input", "virtio mouse", "virtio-mouse-pci"},
	{"graphics", "", ""},
	{"audio", "", ""},
	{"hub", "", "usb-hub"},
	{"video", "none", ""},
	{"video", "vga", "VGA"},
	{"video", "cirrus", "cirrus-vga"},
	{"video", "qxl", "qxl-vga"},
	{"video", "virtio", "virtio-vga"},
	{"video", "bochs", "bochs-display"},
	{"video", "ramfb", "ramfb"},
	{"video", "vmvga", "vmware-svga"},
	{"sound", "ich6", "intel-hda"},
	{"sound", "ich9", "ich9-intel-hda"},
	{"sound", "ac97", "AC97"},
	{"sound", "es1370", "ES1370"},
	{"sound", "sb16", "sb16"},
	{"sound", "usb", "usb-audio"},
	{"watchdog", "i6300esb", "i6300esb"},
	{"watchdog", "ib700", "ib700"},
	{"watchdog", "itco", ""},
	{"memballoon", "none", ""},
	{"memballoon", "virtio", "virtio-balloon-pci"},
	{"rng", "virtio", "virtio-rng-pci"},
	{"tpm", "tpm-tis", "tpm-tis"},
	{"tpm", "tpm-crb", "tpm-crb"},
	{"panic", "isa", "pvpanic"},
	{"panic", "pvpanic", "pvpanic-pci"},
	{"iommu", "intel", "intel-iommu"},
	{"iommu", "virtio", "virtio-iommu-pci"},
}

// driverOf is the device of an element, and whether there is a word for it.
func driverOf(d *Node) (string, bool) {
	key := which(d)
	for _, row := range drivers {
		if row.element == d.Name && row.which == key {
			return row.driver, true
		}
	}
	return "", false
}

// which is what tells elements of one name apart in drivers.
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
	driver, ok := driverOf(d)
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
	list := []string{"pc-dimm", "virtio-mem-pci", "e1000", "e1000e", "rtl8139", "vmxnet3"}
	for _, t := range []table{nicModels, diskModels} {
		for _, row := range t {
			list = append(list, row.value)
		}
	}
	for _, row := range drivers {
		if row.driver != "" {
			list = append(list, row.driver)
		}
	}
	return list
}
