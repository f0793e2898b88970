package core

import (
	"slices"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
)

// TestStrangers: what is isolated at core's first look, and when events were lost, is what the kernel bound without anybody's word,
// and nothing else.
func TestStrangers(t *testing.T) {
	unknown := verdict.Verdict{Decision: verdict.Quarantined, Code: "unknown"}
	device := func(id, place, driver string, supported bool, v verdict.Verdict) inventory.Device {
		bus := "pci"
		if driver == "nvme" {
			bus = "nvme"
		}
		return inventory.Device{Device: hw.Device{ID: id, Place: place, Driver: driver, Bus: bus, Supported: supported}, Verdict: v}
	}
	ok := verdict.Verdict{Decision: verdict.Released, Code: "ok"}
	devices := []inventory.Device{
		device("released", "pci:0000:00:01.0", "e1000e", true, ok),
		device("plugged since", "pci:0000:01:00.0", "e1000e", true, unknown),
		device("plugged and not bound", "pci:0000:02:00.0", "", true, unknown),
		device("empty AHCI controller", "pci:0000:00:1f.2", "ahci", false, unknown),
		device("disk behind a controller in use", "pci:0000:00:03.0/2:0:0:0", "virtio-pci", true, unknown),
		device("NVMe disk plugged since", "pci:0000:03:00.0/1", "nvme", true, unknown),
		device("returned", "pci:0000:05:00.0", "e1000e", true, verdict.Verdict{Decision: verdict.Isolated, Code: "missing"}),
		device("namespace", "pci:0000:04:00.0/1", "nvme", true, ok),
		device("namespace made since", "pci:0000:04:00.0/2", "nvme", true, unknown),
	}
	before := slices.Clone(devices)
	var got []string
	for _, d := range strangers(devices) {
		got = append(got, d.ID)
	}
	if want := []string{"plugged since", "NVMe disk plugged since", "returned"}; !slices.Equal(got, want) {
		t.Errorf("isolated: %q, want %q", got, want)
	}
	if !slices.EqualFunc(devices, before, func(a, b inventory.Device) bool { return a.ID == b.ID }) {
		t.Error("the inventory's own list was changed")
	}
}
