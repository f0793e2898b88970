package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/pki"
	"github.com/ratchetos/ratchet/core/pid1"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/core/update"
)

const (
	before = "version: 1\ntpm: none\napi: {listen: none}\nhostname: before\n"
	after  = "version: 1\ntpm: none\napi: {listen: none}\nhostname: after\n"
)

// workstation is core as it runs under a shell, with these plugins, in folders of the test.
func workstation(t *testing.T, dir string, features ...plugin.Feature) *appliance {
	t.Helper()
	a := &appliance{
		options: options{
			file: filepath.Join(dir, "appliance.yaml"), stateDir: filepath.Join(dir, "state"), runDir: t.TempDir(),
			log: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn})), features: features, noSandbox: true,
		},
		watchdog: &watchdog{}, started: time.Now(), tokens: &pki.Tokens{}, end: make(chan pid1.Action, 1),
	}
	if err := a.open(); err != nil {
		t.Fatal(err)
	}
	a.start(t.Context())
	return a
}

func newDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "appliance.yaml"), []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (a *appliance) mustClose(t *testing.T) {
	t.Helper()
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

// holds waits until the file and the running configuration are as wanted.
func holds(t *testing.T, a *appliance, want string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for {
		file, err := os.ReadFile(a.file)
		if err != nil {
			t.Fatal(err)
		}
		a.mu.Lock()
		running := string(a.yaml)
		a.mu.Unlock()
		if string(file) == want && running == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("file %q, running %q, want %q", file, running, want)
		}
	}
}

func apply(t *testing.T, a *appliance, yaml string, confirm time.Duration) *apipb.ApplyConfigReply {
	t.Helper()
	r, err := a.apply(t.Context(), &apipb.ApplyConfigRequest{Yaml: []byte(yaml), ConfirmMs: confirm.Milliseconds()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestApply(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	if r := apply(t, a, after, 0); !r.GetApplied() || strings.Join(r.GetChanged(), " ") != "hostname" {
		t.Errorf("reply %v, want applied with hostname changed", r)
	}
	holds(t, a, after)
	r := apply(t, a, "version: 1\nhostnam: x\ntime: {ntp: 5}\n", 0)
	if r.GetApplied() || len(r.GetDiagnostics()) != 2 {
		t.Errorf("a document with two errors: %v", r)
	}
	holds(t, a, after)
}

// TestListening: an address that somebody else has is not said to be the API's.
func TestListening(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	yaml := fmt.Sprintf("version: 1\ntpm: none\napi: {listen: \"tcp:%s\"}\n", taken.Addr())
	if err := os.WriteFile(filepath.Join(dir, "appliance.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	a := workstation(t, dir)
	defer a.mustClose(t)
	if want := "unix:" + filepath.Join(a.runDir, "api.sock"); !slices.Equal(a.listening, []string{want}) {
		t.Errorf("listens on %q, want %s", a.listening, want)
	}
}

// TestApplyAsksWhoServes: what a plugin does not take while it serves is found before the document is stored.
func TestApplyAsksWhoServes(t *testing.T) {
	dir := t.TempDir()
	yaml := "version: 1\ntpm: none\napi: {listen: none}\nplugins:\n  orderly: {}\n"
	if err := os.WriteFile(filepath.Join(dir, "appliance.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	a := workstation(t, dir, &orderly{})
	defer a.mustClose(t)
	less := strings.Replace(yaml, "{}\n", "{less: true}\n", 1)
	if _, found := a.check(t.Context(), "appliance.yaml", []byte(less)); found.Failed() {
		t.Errorf("checked for later: %v", found)
	}
	r := apply(t, a, less, 0)
	if d := r.GetDiagnostics(); r.GetApplied() || len(d) != 1 || d[0].GetLine() != 5 || d[0].GetMessage() != "it has more" {
		t.Errorf("reply %v", r)
	}
	holds(t, a, yaml)
}

// TestApplyToAnother: what was made from a document that the box does not run any more is refused.
func TestApplyToAnother(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	base := digest(a.yaml)
	request := &apipb.ApplyConfigRequest{Yaml: []byte(after), Base: base}
	if r, err := a.apply(t.Context(), request); err != nil || !r.GetApplied() {
		t.Fatalf("the first change: %v, %v", r, err)
	}
	request.Yaml = []byte("version: 1\nhostname: third\n")
	if _, err := a.apply(t.Context(), request); !errors.Is(err, api.ErrPrecondition) {
		t.Errorf("the second change of the same document: %v", err)
	}
	holds(t, a, after)
}

func TestConfirmInTime(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	apply(t, a, after, time.Hour)
	if err := a.confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if kept := a.unconfirmed(t.Context()); kept != nil {
		t.Errorf("after the confirmation there is a way back to %q", kept)
	}
	if err := a.confirm(t.Context()); err == nil {
		t.Error("a second confirmation is accepted")
	}
	holds(t, a, after)
}

// full is a state that has no room left.
type full struct{ state.Store }

func (full) Delete(context.Context, string, string) error {
	return errors.New("no space left on device")
}

// TestSettleWithoutRoom: nobody is told that a document stays when that could not be stored; the way back stays, over a restart too.
func TestSettleWithoutRoom(t *testing.T) {
	for name, settle := range map[string]func(a *appliance) error{
		"confirm": func(a *appliance) error { return a.confirm(t.Context()) },
		"apply": func(a *appliance) error {
			_, err := a.apply(t.Context(), &apipb.ApplyConfigRequest{Yaml: []byte(after)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			a := workstation(t, dir)
			apply(t, a, after, time.Hour)
			a.store = full{a.store}
			if err := settle(a); err == nil || !a.waiting() {
				t.Errorf("%v, waiting %v", err, a.waiting())
			}
			a.mustClose(t)
			b := workstation(t, dir)
			defer b.mustClose(t)
			holds(t, b, before)
		})
	}
}

// TestApplySettlesWhatWasLeft: a way back that could not be taken away when it was used does not undo a later document.
func TestApplySettlesWhatWasLeft(t *testing.T) {
	dir := newDir(t)
	a := workstation(t, dir)
	store := a.store
	a.store = full{store}
	apply(t, a, strings.Replace(after, "after", "between", 1), time.Millisecond)
	holds(t, a, before)
	a.applying.Lock() // the way back is done
	a.store = store
	a.applying.Unlock()
	apply(t, a, after, 0)
	a.mustClose(t)
	b := workstation(t, dir)
	defer b.mustClose(t)
	holds(t, b, after)
}

func TestRevertUnlessConfirmed(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	apply(t, a, after, time.Millisecond)
	holds(t, a, before)
}

// TestRevertGoesBackToTheLastConfirmed: two unconfirmed documents in a row lead back behind both.
func TestRevertGoesBackToTheLastConfirmed(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	apply(t, a, strings.Replace(after, "after", "between", 1), time.Hour)
	apply(t, a, after, time.Millisecond)
	holds(t, a, before)
}

// TestRevertThatCameTooLate: a time that runs out while the next document is applied does not take that one back.
func TestRevertThatCameTooLate(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	apply(t, a, strings.Replace(after, "after", "between", 1), time.Hour)
	ranOut := a.pending
	apply(t, a, after, time.Hour)
	a.revert(ranOut) // it waited for the apply
	if !a.waiting() {
		t.Error("the second document does not wait any more")
	}
	holds(t, a, after)
}

// TestPowerCutBeforeConfirm: a restart before the confirmation goes back, as the timer would have.
func TestPowerCutBeforeConfirm(t *testing.T) {
	dir := newDir(t)
	a := workstation(t, dir)
	apply(t, a, after, time.Hour)
	a.mustClose(t)
	b := workstation(t, dir)
	defer b.mustClose(t)
	holds(t, b, before)
}

// TestApplyWithoutConfirmSettles: a document applied for good is not taken back by an earlier one's timer.
func TestApplyWithoutConfirmSettles(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	apply(t, a, strings.Replace(after, "after", "between", 1), time.Hour)
	apply(t, a, after, 0)
	if a.waiting() || a.unconfirmed(t.Context()) != nil {
		t.Error("a way back is left")
	}
	holds(t, a, after)
}

// TestFailedApplyKeepsTheWayBack: an earlier document still waits when a later one cannot be stored.
func TestFailedApplyKeepsTheWayBack(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	apply(t, a, after, time.Hour)
	file := a.file
	a.file = filepath.Join(t.TempDir(), "missing", "appliance.yaml")
	if _, err := a.apply(t.Context(), &apipb.ApplyConfigRequest{Yaml: []byte(before), ConfirmMs: 1000}); err == nil {
		t.Error("a document that cannot be stored is applied")
	}
	a.file = file
	if kept := a.unconfirmed(t.Context()); !a.waiting() || string(kept) != before {
		t.Errorf("waiting %v, way back to %q, want to the first document", a.waiting(), kept)
	}
}

// hangUp is a state behind whose writes the caller hangs up.
type hangUp struct {
	state.Store
	now context.CancelFunc
}

func (h hangUp) Put(ctx context.Context, space, key string, value []byte) error {
	defer h.now()
	return h.Store.Put(ctx, space, key, value)
}

// TestApplyThatNobodyWaitsFor: a change that has begun is made as a whole, also when the caller is interrupted or loses the
// network by it.
func TestApplyThatNobodyWaitsFor(t *testing.T) {
	a := workstation(t, newDir(t), &orderly{})
	defer a.mustClose(t)
	ctx, cancel := context.WithCancel(t.Context())
	store := a.store
	a.store = hangUp{store, cancel}
	yaml := before + "plugins: {orderly: {}}\n"
	r, err := a.apply(ctx, &apipb.ApplyConfigRequest{Yaml: []byte(yaml), ConfirmMs: time.Hour.Milliseconds()})
	if err != nil || !r.GetApplied() || ctx.Err() == nil {
		t.Errorf("%v, %v", r, err)
	}
	a.store = store
	holds(t, a, yaml)
	if s := a.host.Status()[0]; s.State != "ready" {
		t.Errorf("the plugin is %s: %s", s.State, s.Message)
	}
}

// TestApplyGivenUp: a change whose caller has gone before it could begin, because another one was under way, is not made.
func TestApplyGivenUp(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := a.apply(ctx, &apipb.ApplyConfigRequest{Yaml: []byte(after)}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", r, err)
	}
	holds(t, a, before)
}

// TestUpdateTimes: what a configuration says of updates holds as soon as it is applied, also when it is taken back.
func TestUpdateTimes(t *testing.T) {
	a := workstation(t, newDir(t))
	defer a.mustClose(t)
	a.update = update.New(update.Options{Report: &verdict.Report{}})
	for _, c := range []struct {
		text string
		want time.Duration
	}{{before + "update: {settle: 720h}\n", 720 * time.Hour}, {before, 24 * time.Hour}} {
		if r := apply(t, a, c.text, 0); strings.Join(r.GetChanged(), " ") != "update" || r.GetRebootNeeded() {
			t.Errorf("changed %q, reboot needed %v", r.GetChanged(), r.GetRebootNeeded())
		}
		if got := a.update.Times().Settle; got != c.want {
			t.Errorf("an image settles after %s, want %s", got, c.want)
		}
	}
}
