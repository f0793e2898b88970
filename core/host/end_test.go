package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/core/supervise"
)

// TestCoreGone: the end of the control socket is the end of core, and the plugin stops in
// order instead of serving for nobody.
func TestCoreGone(t *testing.T) {
	h := newHost(t, Options{}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {}}))
	v, _ := h.units["one"].look()
	v.process.control.Close()
	select {
	case <-v.process.exited():
	case <-timeout(t).Done():
		t.Fatal("the plugin lives on")
	}
	if why := v.process.why(); why != "exited" {
		t.Errorf("it ended by %s", why)
	}
	until(t, h, "one", func(s PluginStatus) bool { return s.State == "ready" && s.Restarts == 1 })
	lines, err := h.Logs("one", 0)
	must(t, err)
	if text := fmt.Sprint(lines); !strings.Contains(text, "core is gone") || !strings.Contains(text, "stopped in order") {
		t.Errorf("log: %s", text)
	}
}

// TestStopTakesTooLong: a plugin that does not stop is killed, and its disk is free again.
func TestStopTakesTooLong(t *testing.T) {
	h := newHost(t, Options{Policy: supervise.Policy{StopTimeout: 300 * time.Millisecond}}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {SlowStop: 60_000}}))
	start := time.Now()
	must(t, apply(t, h, nil))
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
}

// TestDisableFailed: a plugin that waits for its next try and is disabled gives back what its last process held.
func TestDisableFailed(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {Disk: "file:" + disk, Listen: "tcp:127.0.0.1:0"}}))
	if err := apply(t, h, map[string]probeConfig{"one": {Disk: "file:" + disk, Listen: "tcp:127.0.0.1:0", Restarts: "x", FailAt: "exit"}}); err == nil {
		t.Error("a plugin that exits was applied")
	}
	until(t, h, "one", func(s PluginStatus) bool { return s.State == "failed" })
	must(t, apply(t, h, nil))
	if s := statusOf(t, h, "one"); s.State != "stopped" {
		t.Fatalf("%+v", s)
	}
	if had, err := h.Revoke("file:" + disk); err != nil || len(had) > 0 {
		t.Errorf("%v had the disk still: %v", had, err)
	}
	must(t, apply(t, h, map[string]probeConfig{"two": {Disk: "file:" + disk}}))
}

// TestShutdownDuringApply: the box can be turned off while a plugin takes its time to start.
func TestShutdownDuringApply(t *testing.T) {
	h := newHost(t, Options{Policy: supervise.Policy{StopTimeout: 300 * time.Millisecond}}, "slow")
	applied := make(chan error, 1)
	go func() {
		applied <- h.Apply(context.Background(), map[string]Section{"slow": section(probeConfig{FailAt: "never"})})
	}()
	until(t, h, "slow", func(s PluginStatus) bool { return s.State == "starting" })
	must(t, h.Shutdown(timeout(t)))
	if err := <-applied; err == nil {
		t.Error("apply succeeded")
	}
	if err := h.Apply(timeout(t), nil); !errors.Is(err, errShutdown) {
		t.Errorf("apply after the end: %v", err)
	}
}

// TestNoLeak: after Shutdown no goroutine is left.
func TestNoLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	h := newHost(t, Options{}, "one", "spare")
	must(t, apply(t, h, map[string]probeConfig{"one": {Listen: "tcp:127.0.0.1:0"}, "spare": {}}))
	until(t, h, "spare", func(s PluginStatus) bool { return s.Spare })
	must(t, h.Shutdown(timeout(t)))
	goleak.VerifyNone(t, before)
}
