package boot

import (
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// TestPowerCutInRecovery cuts the power before each TPM command of a boot in which somebody recovers the box. The same
// lines again bring it back, whatever the first time left behind, and the box is never worse than before: it takes no
// other key and no other tool.
func TestPowerCutInRecovery(t *testing.T) {
	for _, c := range []struct {
		name, types string
		attack      func(w *world)
	}{
		{"validate", "validate", (*world).increment},
		{"accept a rolled back disk", "accept|DEV-KEY", (*world).rollback},
		{"accept without E and J", "accept|DEV-KEY", func(w *world) {
			w.increment()
			w.forgetIndex(counter.HandleE)
			w.forgetIndex(counter.HandleJ)
		}},
		{"factory-reset", "factory-reset|erase|DEV-KEY", (*world).increment},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n++ {
				done := false
				t.Run("", func(t *testing.T) { // a TPM for each cut
					w := newWorld(t, "simulator")
					provisioned(t, w)
					c.attack(w)
					cut := &cutter{TPM: w.tpm, left: n}
					w.wire = cut
					w.types(strings.Split(c.types, "|")...)
					w.boot()
					w.wire = nil
					done = cut.left >= 0
					var r Result
					for range 3 { // recovered, or a reset and the boot of the new box
						w.types(strings.Split(c.types, "|")...)
						if r = w.boot(); r.Report.Box.Decision == verdict.Released {
							return
						}
					}
					t.Errorf("power cut before command %d (%#x): %s %s\n%s", n, uint32(cut.last), r.Report.Box.Code, r.Report.Box.Reason, w.screen.String())
				})
				if done {
					t.Logf("%d cuts", n)
					return
				}
				if n > 150 {
					t.Fatal("the boot does not come to an end")
				}
			}
		})
	}
}
