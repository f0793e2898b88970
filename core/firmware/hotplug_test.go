package firmware

import (
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
	"github.com/ratchetos/ratchet/hw/sim"
)

// pull takes a device out of the running box.
func (b *box) pull(place string) hw.Device {
	b.t.Helper()
	for i, d := range b.devices {
		if d.Place == place {
			b.devices = append(b.devices[:i:i], b.devices[i+1:]...)
			b.inv.Pulled(d, verdict.Pulled(place))
			return d
		}
	}
	b.t.Fatalf("nothing is at %s", place)
	return hw.Device{}
}

// plug puts a device back in as the kernel shows it: a function without a driver.
func (b *box) plug(d hw.Device, place string) []Judged {
	b.t.Helper()
	d.Place, d.Driver = place, ""
	b.devices = append(b.devices, d)
	judged, err := b.Plugged(b.t.Context(), hw.Device{ID: place, Place: place, Kind: hw.Disk, Supported: true})
	if err != nil {
		b.t.Fatal(err)
	}
	return judged
}

func TestPulledAndPlugged(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	d := b.pull("pci:0000:00:05.0")
	if gone, err := b.inv.Resolve(id); err == nil {
		t.Errorf("a pulled device is there: %+v", gone)
	}
	list, err := b.inv.Devices()
	if err != nil || len(list) != 1 || list[0].Verdict.Code != "missing" || list[0].Kind != hw.Simulated {
		t.Errorf("listed as %+v, %v", list, err)
	}
	// In another slot, as it was: it is the same device.
	judged := b.plug(d, "pci:0000:00:07.0")
	if len(judged) != 1 || judged[0].Verdict.Code != "returned" || b.devices[0].Driver == "" {
		t.Errorf("%+v, driver %q", judged, b.devices[0].Driver)
	}
	if back, err := b.inv.Resolve(id); err != nil || back.Verdict.Decision != verdict.Released {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestPluggedWithOtherFirmware(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	d := b.pull("pci:0000:00:05.0")
	b.tool("05.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "1.0", 5000)) })
	judged := b.plug(d, d.Place)
	if len(judged) != 1 || judged[0].Verdict.Code != "firmware-changed" || b.devices[0].Driver != "" {
		t.Errorf("%+v, driver %q", judged, b.devices[0].Driver)
	}
}

// TestStrangerIsNotEvenBound unless an admitted device is missing that it may be.
func TestStrangerIsNotEvenBound(t *testing.T) {
	stranger := newBox(t, map[string]sim.Options{"06.0": {}}).devices[0]
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	judged := b.plug(stranger, "pci:0000:00:06.0")
	if len(judged) != 1 || judged[0].Device.ID != "pci:0000:00:06.0" || judged[0].Verdict.Code != "unknown" {
		t.Errorf("%+v", judged)
	}
	b.pull("pci:0000:00:06.0")
	if list, err := b.inv.Devices(); err != nil || len(list) != 1 {
		t.Errorf("a stranger that went is still listed: %+v, %v", list, err)
	}
	b.pull("pci:0000:00:05.0")
	judged = b.plug(stranger, "pci:0000:00:05.0")
	if len(judged) != 1 || judged[0].Device.ID != "serial:06.0" || judged[0].Verdict.Decision != verdict.Quarantined || b.devices[0].Driver != "" {
		t.Errorf("swapped: %+v, driver %q", judged, b.devices[0].Driver)
	}
}

// TestCloneGetsNothing: a device that claims the name of one that is there is nobody.
func TestCloneGetsNothing(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}, "06.0": {}})
	original, err := b.at("pci:0000:00:05.0")
	if err != nil {
		t.Fatal(err)
	}
	clone := *original
	b.pull("pci:0000:00:06.0") // so that a device is awaited at all
	judged := b.plug(clone, "pci:0000:00:07.0")
	if len(judged) != 1 || judged[0].Device.ID != "pci:0000:00:07.0" || judged[0].Verdict.Decision == verdict.Released {
		t.Errorf("%+v", judged)
	}
	if d, err := b.inv.Resolve(id); err != nil || d.Verdict.Decision != verdict.Released || d.Place != "pci:0000:00:05.0" {
		t.Errorf("the original: %+v, %v", d, err)
	}
}

// TestDiskBehindAControllerInUse is there when it is heard of: it is read where it is.
func TestDiskBehindAControllerInUse(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	for _, want := range []string{"returned", "firmware-changed"} {
		if want == "firmware-changed" {
			b.tool("05.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "1.0", 5000)) })
		}
		judged, err := b.Plugged(t.Context(), b.devices[0])
		if err != nil || len(judged) != 1 || judged[0].Verdict.Code != want {
			t.Errorf("%+v, %v, want %s", judged, err, want)
		}
	}
}
