package boot

import (
	"testing"

	"github.com/ratchetos/ratchet/boot/enroll"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// TestEnroll: a new box whose firmware takes keys goes to the recovery console at once, and nothing is provisioned
// before the restart; a box that is in use is told what a change costs it.
func TestEnroll(t *testing.T) {
	w := newWorld(t, "simulator")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	written, fails := 0, error(nil)
	w.enrollment = func(keep bool) (enroll.Plan, func() error, error) {
		p := enroll.Plan{Warnings: []string{"a screen may stay dark"}}
		if keep {
			p.Warnings = nil
		}
		return p, func() error { written++; return nil }, fails
	}
	w.answer = func(string) bool {
		t.Error("asked for provisioning beside the console")
		return false
	}

	w.types("enroll", "no", "enroll", "enroll")
	r := w.boot()
	w.want(r, verdict.Isolated, "ended")
	w.shows("its firmware takes Secure Boot keys", "enroll  ", "warning: a screen may stay dark", "nothing was done", "with the restart Secure Boot is on")
	if r.End != recovery.Reboot || written != 1 {
		t.Errorf("end %v, keys written %d times", r.End, written)
	}

	fails = enroll.ErrUserMode
	w.types("enroll")
	w.want(w.boot(), verdict.Isolated, "unprovisioned")
	w.shows("clear the platform key")

	fails = nil
	w.types("provision")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.asked = "it was asked for"
	w.types("enroll", "no", "continue")
	w.want(w.boot(), verdict.Released, "clean")
	w.shows("after the restart it is isolated until `accept`")

	w.enrollment = nil
	w.types("enroll", "continue")
	w.want(w.boot(), verdict.Released, "clean")
	w.shows(enroll.ErrNoUEFI.Error())
}
