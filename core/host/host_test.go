package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/supervise"
)

// testWriter sends core's log to the test.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimRight(p, "\n"))
	return len(p), nil
}

// newHost makes a host with probes of the given names.
func newHost(t testing.TB, opts Options, names ...string) *Host {
	t.Helper()
	for _, n := range names {
		opts.Programs = append(opts.Programs, Program{Descriptor: descriptor(n)})
	}
	opts.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	if opts.Policy.SpareAfter == 0 {
		opts.Policy.SpareAfter = time.Millisecond
	}
	if opts.StateDir == "" {
		opts.StateDir = t.TempDir()
	}
	h, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Shutdown(timeout(t)); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return h
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func section(c probeConfig) Section {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return Section{JSON: data}
}

func apply(t testing.TB, h *Host, sections map[string]probeConfig) error {
	t.Helper()
	m := make(map[string]Section, len(sections))
	for name, c := range sections {
		m[name] = section(c)
	}
	return h.Apply(timeout(t), m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func statusOf(t testing.TB, h *Host, name string) PluginStatus {
	t.Helper()
	for _, s := range h.Status() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no status of %s", name)
	return PluginStatus{}
}

// until waits for a plugin to be as cond wants it, woken by its changes.
func until(t testing.TB, h *Host, name string, cond func(PluginStatus) bool) PluginStatus {
	t.Helper()
	ctx := timeout(t)
	for {
		_, changed := h.units[name].look()
		if s := statusOf(t, h, name); cond(s) {
			return s
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("%s never got there: %+v", name, statusOf(t, h, name))
		}
	}
}

func invoke(t testing.TB, h *Host, name, method, req string) string {
	t.Helper()
	b, err := h.Invoke(timeout(t), name, method, []byte(req), "test")
	if err != nil {
		t.Fatalf("invoke %s: %v", method, err)
	}
	return string(b)
}

func TestStartAndStop(t *testing.T) {
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {Note: "hello"}}))
	s := until(t, h, "one", func(s PluginStatus) bool { return s.Message == "hello" })
	if s.State != "ready" || s.Health != "ok" || s.PID == 0 || s.RSS == 0 || len(s.Gauges) != 1 || s.Generation != 1 {
		t.Errorf("status %+v", s)
	}
	if got := invoke(t, h, "one", "pid", ""); got != fmt.Sprint(s.PID) {
		t.Errorf("pid %s, want %d", got, s.PID)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", s.PID)); err != nil || string(comm) != "one\n" {
		t.Errorf("the kernel calls it %q, %v", comm, err)
	}
	if s := statusOf(t, h, "two"); s.State != "absent" || s.PID != 0 {
		t.Errorf("not enabled: %+v", s)
	}
	if _, err := h.Invoke(timeout(t), "two", "pid", nil, ""); err == nil {
		t.Error("an absent plugin answers")
	}
	must(t, apply(t, h, nil))
	if s := statusOf(t, h, "one"); s.State != "stopped" {
		t.Errorf("after removal: %+v", s)
	}
	lines, err := h.Logs("one", 0)
	must(t, err)
	text := fmt.Sprint(lines)
	drained, stopped := strings.Index(text, "drained"), strings.Index(text, "stopped in order")
	if drained < 0 || stopped < drained {
		t.Errorf("log: %s", text)
	}
	if err := syscall.Kill(s.PID, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process is still there: %v", err)
	}
}

func TestCrash(t *testing.T) {
	h := newHost(t, Options{Policy: supervise.Policy{Burst: 1, Base: 20 * time.Millisecond}}, "one", "other")
	must(t, apply(t, h, map[string]probeConfig{"one": {}, "other": {}}))
	other := statusOf(t, h, "other")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	events := h.Subscribe(ctx)
	pid := statusOf(t, h, "one").PID
	for i := range 3 {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		s := until(t, h, "one", func(s PluginStatus) bool { return s.State == "ready" && s.PID != pid })
		if s.Restarts != i+1 {
			t.Errorf("restarts %d, want %d", s.Restarts, i+1)
		}
		pid = s.PID
	}
	must(t, h.Kill(t.Context(), "one"))
	if s := statusOf(t, h, "one"); s.PID == pid || s.State != "ready" || s.Restarts != 4 {
		t.Errorf("after Kill: %+v", s)
	}
	if err := h.Kill(t.Context(), "none"); err == nil {
		t.Error("killed what is not there")
	}
	if s := statusOf(t, h, "other"); s.PID != other.PID || s.State != "ready" {
		t.Errorf("the other plugin was touched: %+v", s)
	}
	failed := false
	for len(events) > 0 {
		e := <-events
		failed = failed || e.State == "failed" && strings.Contains(e.Message, "signal: killed; next try in 20ms")
	}
	if !failed {
		t.Error("no event of the second crash's back-off")
	}
}

func TestFailingPluginHarmsNobody(t *testing.T) {
	for _, at := range []string{"start", "exit", "panic"} {
		t.Run(at, func(t *testing.T) {
			h := newHost(t, Options{}, "bad", "good")
			err := apply(t, h, map[string]probeConfig{"bad": {FailAt: at}, "good": {}})
			if err == nil || !strings.Contains(err.Error(), "bad") {
				t.Errorf("apply: %v", err)
			}
			if s := statusOf(t, h, "good"); s.State != "ready" {
				t.Errorf("good: %+v", s)
			}
			until(t, h, "bad", func(s PluginStatus) bool { return s.State == "failed" && s.Restarts > 0 })
			must(t, apply(t, h, map[string]probeConfig{"bad": {}, "good": {}}))
			if s := statusOf(t, h, "bad"); s.State != "ready" {
				t.Errorf("repaired: %+v", s)
			}
		})
	}
}

func TestHungPluginIsKilled(t *testing.T) {
	h := newHost(t, Options{Policy: supervise.Policy{Silence: 1500 * time.Millisecond}}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {}}))
	pid := statusOf(t, h, "one").PID
	_, err := h.Invoke(timeout(t), "one", "hang", nil, "test") // it may answer this before it stops
	for err == nil {
		_, err = h.Invoke(timeout(t), "one", "pid", nil, "test")
	}
	if !strings.Contains(err.Error(), "its process ended meanwhile, try again") {
		t.Errorf("a call of one that hangs and is killed: %v", err)
	}
	s := until(t, h, "one", func(s PluginStatus) bool { return s.State == "ready" && s.PID != pid })
	if s.Restarts != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestHealth(t *testing.T) {
	h := newHost(t, Options{}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {}}))
	pid := statusOf(t, h, "one").PID
	invoke(t, h, "one", "degrade", "")
	until(t, h, "one", func(s PluginStatus) bool {
		return s.State == "degraded" && s.Health == "degraded" && s.Message == "link down" && s.PID == pid
	})
	_, _ = h.Invoke(timeout(t), "one", "fail", nil, "test")
	pid = until(t, h, "one", func(s PluginStatus) bool { return s.State == "ready" && s.PID != pid }).PID
	// The same through sd_notify, as a plugin that knows nothing of core would say it.
	_, _ = h.Invoke(timeout(t), "one", "trigger", nil, "test")
	until(t, h, "one", func(s PluginStatus) bool { return s.State == "ready" && s.PID != pid })
}

func TestReconfigure(t *testing.T) {
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {}, "two": {}}))
	one, two := statusOf(t, h, "one"), statusOf(t, h, "two")

	must(t, apply(t, h, map[string]probeConfig{"one": {Note: "new"}, "two": {}}))
	s := until(t, h, "one", func(s PluginStatus) bool { return s.Message == "new" })
	if s.PID != one.PID || s.Generation != 2 {
		t.Errorf("in place: %+v", s)
	}
	must(t, apply(t, h, map[string]probeConfig{"one": {Note: "new", Restarts: "x"}, "two": {}}))
	if s = statusOf(t, h, "one"); s.PID == one.PID || s.State != "ready" {
		t.Errorf("needs a restart: %+v", s)
	}
	err := apply(t, h, map[string]probeConfig{"one": {Bad: "no such thing"}, "two": {}})
	var inv *InvalidError
	if !errors.As(err, &inv) || inv.Plugin != "one" || inv.Diagnostics[0].GetPath() != "bad" {
		t.Errorf("invalid: %v", err)
	}
	if after := statusOf(t, h, "one"); after.PID != s.PID || after.Generation != 3 {
		t.Errorf("a refused section changed something: %+v", after)
	}
	if after := statusOf(t, h, "two"); after.PID != two.PID || after.Generation != 1 {
		t.Errorf("two was touched: %+v", after)
	}
	if err := h.Apply(timeout(t), map[string]Section{"three": {}}); err == nil || !strings.Contains(err.Error(), "three") {
		t.Errorf("unknown plugin: %v", err)
	}
}

func TestInvalidAtStart(t *testing.T) {
	h := newHost(t, Options{}, "one")
	err := apply(t, h, map[string]probeConfig{"one": {Bad: "no such thing"}})
	if err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("apply: %v", err)
	}
	if s := statusOf(t, h, "one"); s.State != "failed" || s.Restarts != 0 {
		t.Errorf("status %+v", s)
	}
	v, err := h.Validate(timeout(t), "one", section(probeConfig{Bad: "x", Disk: "file:/d"}))
	if err != nil || len(v.Diagnostics) != 1 || len(v.Wants) != 1 {
		t.Errorf("validate: %+v, %v", v, err)
	}
}

func TestConflict(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	link := disk + ".link"
	must(t, os.Symlink(disk, link))
	h := newHost(t, Options{}, "a", "b", "c")
	err := apply(t, h, map[string]probeConfig{"a": {Disk: "file:" + disk}, "b": {Disk: "file:" + link}, "c": {}})
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "by a and by b") || !strings.Contains(err.Error(), disk) {
		t.Errorf("apply: %v", err)
	}
	for name, want := range map[string]string{"a": "failed", "b": "failed", "c": "ready"} {
		if s := statusOf(t, h, name); s.State != want {
			t.Errorf("%s: %+v", name, s)
		}
	}
	must(t, apply(t, h, map[string]probeConfig{"a": {Disk: "file:" + disk}, "b": {}, "c": {}}))
	// Who has it keeps it.
	err = apply(t, h, map[string]probeConfig{"a": {Disk: "file:" + disk}, "b": {Disk: "file:" + link}, "c": {}})
	if !errors.As(err, &conflict) || conflict.Holder != "a" || conflict.Wants != "b" {
		t.Errorf("apply: %v", err)
	}
	if s := statusOf(t, h, "b"); s.State != "ready" {
		t.Errorf("b lost its old section: %+v", s)
	}
	// And it can be moved.
	must(t, apply(t, h, map[string]probeConfig{"b": {Disk: "file:" + disk}}))
}

func TestIsolated(t *testing.T) {
	h := newHost(t, Options{Isolated: "counter moved behind our back"}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {}}))
	s := until(t, h, "one", func(s PluginStatus) bool { return s.State == "isolated" })
	if s.PID != 0 || s.Message != "counter moved behind our back" {
		t.Errorf("status %+v", s)
	}
	if err := h.Restart(timeout(t), "one"); err == nil || !strings.Contains(err.Error(), "counter moved") {
		t.Errorf("restart: %v", err)
	}
}

func TestStopCancelsInvoke(t *testing.T) {
	h := newHost(t, Options{}, "one")
	must(t, apply(t, h, map[string]probeConfig{"one": {}}))
	done := make(chan error, 1)
	go func() {
		_, err := h.Invoke(context.Background(), "one", "wait", nil, "test")
		done <- err
	}()
	invoke(t, h, "one", "pid", "") // beside the waiting one
	must(t, apply(t, h, nil))
	if err := <-done; err == nil {
		t.Error("the call outlived its plugin")
	}
}

// TestStaleSpare: a plugin that waits for its next try gets a new section. The spare that
// stands by has the old one and must not be the next to serve.
func TestStaleSpare(t *testing.T) {
	h := newHost(t, Options{Policy: supervise.Policy{Burst: 1, Base: time.Hour, Max: time.Hour}}, "spare")
	must(t, apply(t, h, map[string]probeConfig{"spare": {Note: "old"}}))
	for range 2 {
		s := until(t, h, "spare", func(s PluginStatus) bool { return s.State == "ready" && s.Spare })
		must(t, syscall.Kill(s.PID, syscall.SIGKILL))
		until(t, h, "spare", func(n PluginStatus) bool { return n.PID != s.PID && n.State != "starting" })
	}
	until(t, h, "spare", func(s PluginStatus) bool { return s.State == "failed" })
	must(t, apply(t, h, map[string]probeConfig{"spare": {Note: "new"}}))
	until(t, h, "spare", func(s PluginStatus) bool { return s.State == "ready" && s.Message == "new" })
}

// TestApplyThatNobodyWaitsFor: a plugin that was on its way when the caller went away serves all the same.
func TestApplyThatNobodyWaitsFor(t *testing.T) {
	h := newHost(t, Options{}, "one", "two")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	applied := make(chan error, 1)
	go func() {
		applied <- h.Apply(ctx, map[string]Section{"one": section(probeConfig{}), "two": section(probeConfig{})})
	}()
	for _, name := range []string{"one", "two"} {
		until(t, h, name, func(s PluginStatus) bool { return s.State == "starting" })
	}
	cancel()
	if err := <-applied; !errors.Is(err, context.Canceled) {
		t.Errorf("apply: %v", err)
	}
	for _, name := range []string{"one", "two"} {
		until(t, h, name, func(s PluginStatus) bool { return s.State == "ready" })
	}
}
