package boot

import (
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// TestFirmwareIsReadBack: what a device reads as at the first boot is what it has to read as later, its
// digest if it has one; what cannot be read is isolated.
func TestFirmwareIsReadBack(t *testing.T) {
	a, b := strings.Repeat("aa", 32), strings.Repeat("bb", 32)
	for name, tt := range map[string]struct {
		first, then hw.Device
		want        string
	}{
		"same":                    {hw.Device{Firmware: "1", FirmwareDigest: a}, hw.Device{Firmware: "1", FirmwareDigest: a}, "released ok"},
		"same version, changed":   {hw.Device{Firmware: "1", FirmwareDigest: a}, hw.Device{Firmware: "1", FirmwareDigest: b}, "isolated firmware-changed"},
		"digest held back":        {hw.Device{Firmware: "1", FirmwareDigest: a}, hw.Device{Firmware: "1"}, "isolated firmware-changed"},
		"other version":           {hw.Device{Firmware: "1"}, hw.Device{Firmware: "2"}, "isolated firmware-changed"},
		"cannot be read":          {hw.Device{Firmware: "1"}, hw.Device{FirmwareErr: "the slot it runs from is erased"}, "isolated unreadable"},
		"could not be read, can":  {hw.Device{FirmwareErr: "busy"}, hw.Device{Firmware: "1"}, "quarantined unknown"},
		"says more than it did":   {hw.Device{Firmware: "1"}, hw.Device{Firmware: "1", FirmwareDigest: a}, "released ok"},
		"never said anything":     {hw.Device{}, hw.Device{}, "released ok"},
		"said nothing, says more": {hw.Device{}, hw.Device{Firmware: "1"}, "released ok"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "simulator")
			nic := func(d hw.Device) {
				d.ID, d.Place, d.Kind = "mac:52:54:00:00:00:01", nicPlace, hw.NIC
				w.iron.behind[nicPlace] = []hw.Device{d}
			}
			nic(tt.first)
			w.want(w.boot(), verdict.Released, "provisioned")
			nic(tt.then)
			r := w.boot()
			w.want(r, verdict.Released, "clean")
			if got := devices(r)["mac:52:54:00:00:00:01"]; got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
