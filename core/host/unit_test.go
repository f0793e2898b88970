package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
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

// pullable is hardware that can be pulled.
type pullable struct{ pulled atomic.Bool }

func (p *pullable) Identify(_ context.Context, _ string, w *pluginpb.Want) (string, error) {
	if p.pulled.Load() {
		return "", errors.New("no disk " + w.GetSelector())
	}
	return w.GetSelector(), nil
}

func (p *pullable) Open(context.Context, Request) (Opened, error) { return Opened{}, nil }

// TestKillOfRefused: whoever kills a plugin that cannot start again is told so at once.
func TestKillOfRefused(t *testing.T) {
	var hardware pullable
	h := newHost(t, Options{Resources: &hardware}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {Disk: "serial:x"}}))
	hardware.pulled.Store(true)
	if err := h.Kill(timeout(t), "one"); err == nil || !strings.Contains(err.Error(), "no disk serial:x") {
		t.Errorf("kill: %v", err)
	}
}

// TestChangeOfOneThatDies: a plugin that dies while it is asked about its new section gets it all the same, unless it dies
// of the question.
func TestChangeOfOneThatDies(t *testing.T) {
	impatient := supervise.Policy{Burst: 1, Base: time.Hour, Max: time.Hour}
	for name, test := range map[string]struct {
		failAt string
		killed bool // before, so that the next death is followed by a long wait
		taken  bool
	}{
		"of something else":          {"validate once", false, true},
		"and is not started at once": {"validate", true, true},
		"of the question":            {"validate", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, Options{Policy: impatient}, "one")
			must(t, apply(t, h, map[string]probeConfig{"one": {FailAt: test.failAt, Note: "old"}}))
			if test.killed {
				must(t, h.Kill(timeout(t), "one"))
			}
			err := apply(t, h, map[string]probeConfig{"one": {Note: "new"}})
			if (err == nil) != test.taken {
				t.Errorf("apply: %v", err)
			}
			if test.taken {
				until(t, h, "one", func(s PluginStatus) bool { return s.Message == "new" })
			} else if s := statusOf(t, h, "one"); s.Generation != 1 {
				t.Errorf("it has the new section: %+v", s)
			}
		})
	}
}

// TestTookAndDied: a process that dies when it has just taken its new section over does not leave the old one behind.
func TestTookAndDied(t *testing.T) {
	h := newHost(t, Options{}, "spare")
	must(t, apply(t, h, map[string]probeConfig{"spare": {Note: "old"}}))
	until(t, h, "spare", func(s PluginStatus) bool { return s.Spare })
	u := h.units["spare"]
	v, _ := u.look()
	must(t, h.Kill(timeout(t), "spare")) // the spare serves, with the old section
	must(t, u.took(timeout(t), v.process, config{section: section(probeConfig{Note: "new"}), generation: 2}))
	until(t, h, "spare", func(s PluginStatus) bool { return s.Message == "new" })
}

// TestStopAtGate: a plugin that is told to stop before it may start opens nothing and is not started any more.
func TestStopAtGate(t *testing.T) {
	h := newHost(t, Options{}, "one")
	u, g := h.units["one"], newGate()
	u.setConfig(config{section: section(probeConfig{Listen: "tcp:127.0.0.1:0"}), generation: 1, gate: g})
	u.input(supervise.Enable, "")
	<-g.prepared
	u.input(supervise.Disable, "")
	until(t, h, "one", func(s PluginStatus) bool { return s.State == "stopped" })
	if u.epoch != (epoch{}) {
		t.Errorf("it was to be started: %+v", u.epoch)
	}
	lines, err := h.Logs("one", 0)
	must(t, err)
	if text := fmt.Sprint(lines); strings.Contains(text, "panic") {
		t.Errorf("it was drained: %s", text)
	}
}
