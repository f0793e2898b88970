package systems

import (
	"testing"
	"time"

	"github.com/ratchetos/ratchet/qemu/box"
)

// updateFaults tries images that fail in each of the other ways, one after the other, on the machine that update has
// left: each time the slot before runs again by itself, the attempt is closed and the box is released.
func (s *counterSuite) updateFaults(t *testing.T) {
	m := boot(t, box.Options{
		CPUs:  sideBySide,
		Image: s.image, Dir: s.machine("update"), UEFI: true, Memory: "1536M", Limit: 20 * time.Minute,
		ExtraArgs: []string{"-device", "i6300esb", "-action", "watchdog=reset"},
	})
	m.starts("9.1", "clean")
	m.healthy("B")
	for _, c := range []struct {
		version, fault string
		says           string // that it has failed
		code           string // of the boot after it
	}{
		{"9.3", "hang", `ratchet: FAULT hang`, "closing"},
		{"9.4", "unhealthy", `ratchet: slot A was not healthy within 45s: back to slot B`, "clean"},
		{"9.5", "die-before-e", `ratchet: FAULT die-before-e`, "closing"},
		{"9.6", "die-after-e", `ratchet: FAULT die-after-e`, "clean"},
	} {
		m.ctl("update", "apply", variant(t, s.dir, s.image, c.version, 2, c.fault), "--reboot")
		_, err := m.ExpectLine(within(t, bootLimit), c.says)
		must(t, err)
		m.starts("9.1", c.code)
		m.healthy("B")
		if u := m.updates(); u.Running != "B" || u.First != "B" || u.Next != "" || u.Boots != 0 {
			t.Errorf("after %s: %+v", c.fault, u)
		}
		s.attack(t, rowSlots, "new image with the fault "+c.fault, "the slot before runs again, released, %s", c.code)
		seen(t, "an image with the fault %s: the slot before runs again", c.fault)
	}
	m.off()
}
