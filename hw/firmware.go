package hw

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/hw/catalogue"
	"github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/firmware/devlink"
	"github.com/ratchetos/ratchet/hw/firmware/nvme"
	"github.com/ratchetos/ratchet/hw/sim"
)

// Firmware opens the firmware of a device whose driver is bound. The error wraps
// firmware.ErrUnsupported for a device that offers no way to it.
func (s *System) Firmware(d Device) (firmware.Firmware, error) {
	_, entry, err := s.target(d.Place)
	if err != nil {
		return nil, fmt.Errorf("open firmware: %w", err)
	}
	return s.firmware(entry, d)
}

func (s *System) firmware(entry catalogue.Entry, d Device) (firmware.Firmware, error) {
	a, err := address(d.Place)
	switch {
	case err != nil:
		return nil, fmt.Errorf("open firmware: %w", err)
	case d.Driver == "" || d.Node == "":
		return nil, fmt.Errorf("open firmware of %s: no driver is bound", d.ID)
	case d.Kind == Simulated:
		return sim.Open(s.node(d.Node), s.attribute("/proc/sys/kernel/random/boot_id"))
	case d.Bus == "nvme":
		for _, controller := range s.glob(filepath.Join("/sys/bus/pci/devices", a, "nvme/nvme[0-9]*")) {
			return nvme.Open(s.node("/dev/" + filepath.Base(controller)))
		}
	case slices.Contains(entry.Capabilities, "devlink"):
		return devlink.Open("pci", a)
	}
	return nil, fmt.Errorf("open firmware of %s: %w", d.ID, firmware.ErrUnsupported)
}

// node is a device node below the root.
func (s *System) node(path string) string { return filepath.Join(s.root, path) }

// readFirmware asks a device that was just bound what it runs. What the driver told in sysfs or over
// ethtool stays for devices without a better way.
func (s *System) readFirmware(ctx context.Context, entry catalogue.Entry, d *Device) {
	defer func() { d.KnownGood = d.FirmwareErr == "" && entry.KnownGood(d.Vendor+":"+d.Product, d.Firmware) }()
	f, err := s.firmware(entry, *d)
	if errors.Is(err, firmware.ErrUnsupported) {
		return
	}
	if err != nil {
		d.FirmwareErr = err.Error()
		return
	}
	defer f.Close()
	r, err := f.ReadBack(ctx)
	if err != nil {
		d.FirmwareErr = err.Error()
		return
	}
	if d.Firmware = r.Version; r.Strength == firmware.Digest {
		d.FirmwareDigest = hex.EncodeToString(r.Digest[:])
	}
}

// SharesFirmware says whether flashing one of two devices changes the other: the namespaces of an
// NVMe controller do, and the ports of a NIC, whose functions are on one card.
func SharesFirmware(a, b Device) bool {
	if a.ID == b.ID {
		return true
	}
	addressA, errA := address(a.Place)
	addressB, errB := address(b.Place)
	if errA != nil || errB != nil || a.Kind != b.Kind {
		return false
	}
	if a.Kind == NIC { // a card is what has one device number
		cardA, _, _ := strings.Cut(addressA, ".")
		cardB, _, _ := strings.Cut(addressB, ".")
		return cardA == cardB
	}
	return a.Bus == "nvme" && addressA == addressB
}
