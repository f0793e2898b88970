package core

import (
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
)

// TestStrangers: what is isolated at core's first look is what the kernel bound without init's word, and nothing else.
func TestStrangers(t *testing.T) {
	unknown := verdict.Verdict{Decision: verdict.Quarantined, Code: "unknown"}
	device := func(id, place, driver string, supported bool, v verdict.Verdict) inventory.Device {
		return inventory.Device{Device: hw.Device{ID: id, Place: place, Driver: driver, Supported: supported}, Verdict: v}
	}
	devices := []inventory.Device{
		device("released", "pci:0000:00:01.0", "e1000e", true, verdict.Verdict{Decision: verdict.Released, Code: "ok"}),
		device("plugged since", "pci:0000:01:00.0", "e1000e", true, unknown),
		device("plugged and not bound", "pci:0000:02:00.0", "", true, unknown),
		device("empty AHCI controller", "pci:0000:00:1f.2", "ahci", false, unknown),
		device("disk behind a controller in use", "pci:0000:00:03.0/2:0:0:0", "virtio-pci", true, unknown),
	}
	before := slices.Clone(devices)
	var got []string
	for _, d := range strangers(devices) {
		got = append(got, d.ID)
	}
	if want := []string{"plugged since"}; !slices.Equal(got, want) {
		t.Errorf("isolated: %q, want %q", got, want)
	}
	if !slices.EqualFunc(devices, before, func(a, b inventory.Device) bool { return a.ID == b.ID }) {
		t.Error("the inventory's own list was changed")
	}
}
