package update

import (
	"testing"

	"github.com/ratchetos/ratchet/boot/slot"
)

// TestTrialIsKept: an ordered end of a boot that was not healthy leaves the trial that is to come a trial.
func TestTrialIsKept(t *testing.T) {
	b := newBox(t)
	f := slot.Firmware{Variables: b.vars}
	must(t, f.SetCount(slot.SwitchAt)) // the boot that tried the other slot has come back
	must(t, errorOf(b.install(b.bundle("2.0", 2, nil))))
	b.Ending()
	_, step, err := f.Begin(b.report.BootDisk.Slots[1].GUID)
	if b.power() != "B" || step != slot.Continue || err != nil {
		t.Errorf("step %d, %v", step, err)
	}
}
