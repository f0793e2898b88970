package host

import (
	"errors"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/supervise"
)

// TestRefusedBesideSpare: the spare of a plugin whose next process is refused ends with it.
func TestRefusedBesideSpare(t *testing.T) {
	h := newHost(t, Options{}, "spare")
	u := newUnit(h, h.units["spare"].program, 0) // its goroutine does not run: the test is it
	now := time.Now()
	for _, k := range []supervise.Kind{supervise.Enable, supervise.Started, supervise.Tick} {
		now = now.Add(time.Second)
		u.machine.Step(now, supervise.Input{Kind: k})
	}
	u.active, u.spare = u.newAttempt(false), u.newAttempt(true)
	spare := u.spare
	u.ended(now, u.active, &refusedError{errors.New("no disk")})
	if s := u.machine.State(); s != supervise.Failed || u.machine.Message() != "no disk" {
		t.Errorf("%s: %s", s, u.machine.Message())
	}
	if spare.ctx.Err() == nil {
		t.Error("the spare lives on")
	}
}
