package firmware

import (
	"errors"
	"testing"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw/sim"
)

func TestAdmit(t *testing.T) {
	const added = "serial:06.0"
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	b.add("06.0", sim.Options{})
	b.boot(false)
	if v := b.verdictOn(added); v.Code != "unknown" || v.Next != "ratchetctl hw admit "+added {
		t.Fatalf("a new device: %+v", v)
	}
	a, err := b.Admit(t.Context(), added, "alice")
	if err != nil || a.Attempt != 1 || a.ID != added {
		t.Fatalf("%+v, %v", a, err)
	}
	if again, err := b.Admit(t.Context(), "pci:0000:00:06.0", "bob"); err != nil || again.Attempt != 1 || len(b.open) != 1 {
		t.Errorf("a second time: %+v, %v, %d attempts", again, err, len(b.open))
	}
	if d, err := b.inv.Resolve(added); err != nil || d.Verdict.Code != "admitted-at-boot" || d.Driver != "" {
		t.Errorf("until the boot: %+v, %v, driver %q", d.Verdict, err, d.Driver)
	}
	b.boot(false)
	if v := b.verdictOn(added); v.Decision != verdict.Released || v.Code != "admitted" {
		t.Errorf("after the boot: %+v", v)
	}
	if _, err := b.Admit(t.Context(), added, "alice"); !errors.Is(err, ErrAdmitted) {
		t.Errorf("a released device: %v", err)
	}
}

// TestAdmittedWithOtherFirmware: what changes between the admission and the boot is not let in.
func TestAdmittedWithOtherFirmware(t *testing.T) {
	const added = "serial:06.0"
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	b.add("06.0", sim.Options{})
	b.boot(false)
	if _, err := b.Admit(t.Context(), added, ""); err != nil {
		t.Fatal(err)
	}
	b.tool("06.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "6.6.6", 5000)) })
	b.boot(false)
	if v := b.verdictOn(added); v.Decision != verdict.Quarantined || v.Code != "admitted-otherwise" {
		t.Errorf("%+v", v)
	}
}

func TestAdmitAnIsolatedDevice(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	b.tool("05.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "6.6.6", 5000)) })
	b.boot(false)
	if _, err := b.Admit(t.Context(), id, ""); !errors.Is(err, ErrAdmitted) || len(b.open) != 0 {
		t.Errorf("%v, %d attempts", err, len(b.open))
	}
}
