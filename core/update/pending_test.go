package update

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/slot"
)

// proving is a box whose slot B has an image of yesterday that is about to settle.
func proving(t *testing.T) *box {
	t.Helper()
	b := newBox(t)
	b.live(time.Minute)
	must(t, errorOf(b.install(b.bundle("2.0", 2, nil))))
	b.boot(b.power(), "2.0", 2)
	b.live(23 * time.Hour)
	return b
}

// TestPending: what waits for the next restart is not overwritten by the image that settles meanwhile.
func TestPending(t *testing.T) {
	for name, c := range map[string]struct {
		act  func(*box) error
		want string // in slot A
	}{
		"update":   {func(b *box) error { return errorOf(b.install(b.bundle("3.0", 3, nil))) }, "3.0"},
		"rollback": {func(b *box) error { return errorOf(b.Rollback(b.t.Context(), false)) }, "1.0"},
	} {
		b := proving(t)
		must(t, c.act(b))
		b.live(3 * time.Hour)
		s, err := b.Status(t.Context())
		if v := b.version("A"); v != c.want || s.Next != "A" || s.SettlesIn != 0 || err != nil {
			t.Errorf("%s: slot A holds %s, next is %q, settles in %s, %v; %q", name, v, s.Next, s.SettlesIn, err, b.said)
		}
	}
}

// TestSettleByHand takes the place of what waited for the next restart.
func TestSettleByHand(t *testing.T) {
	b := proving(t)
	must(t, errorOf(b.Rollback(t.Context(), false)))
	must(t, errorOf(b.Settle(t.Context(), "alice", func(string, int64, int64) {})))
	if s, err := b.Status(t.Context()); s.Next != "" || b.version("A") != "2.0" || err != nil {
		t.Errorf("next is %q, slot A holds %s, %v", s.Next, b.version("A"), err)
	}
}

// TestRollbackToTorn: a slot whose writing failed in this run is nothing to go back to, whatever it held when the box started.
func TestRollbackToTorn(t *testing.T) {
	b := newBox(t)
	b.live(time.Minute)
	b.o.Open = func(node string, write bool) (Slot, error) {
		d, err := slot.OpenDevice(node, write)
		if err == nil && write {
			return failing{d}, nil
		}
		return d, err
	}
	if _, err := b.install(b.bundle("2.0", 2, nil)); err == nil || len(b.counter.open) != 1 {
		t.Fatal(err)
	}
	if r, err := b.Rollback(t.Context(), false); !errors.Is(err, ErrNothing) {
		t.Errorf("%+v, %v; slot B holds %s", r, err, b.version("B"))
	}
	if s, err := b.Status(t.Context()); s.Next != "" || err != nil {
		t.Errorf("next is %q, %v", s.Next, err)
	}
}

// failing is a disk that fails once something was written to it.
type failing struct{ *slot.Device }

func (f failing) WriteAt(b []byte, at int64) (int, error) {
	if at > 1<<20 {
		return 0, unix.EIO
	}
	return f.Device.WriteAt(b, at)
}

// TestTimes: a time of proof that is made longer holds at once, and so does one that is made shorter.
func TestTimes(t *testing.T) {
	b := proving(t)
	b.SetTimes(Times{Settle: 48 * time.Hour})
	b.live(3 * time.Hour)
	if s, err := b.Status(t.Context()); b.version("A") != "1.0" || s.SettlesIn < 20*time.Hour || err != nil {
		t.Errorf("slot A holds %s, settles in %s, %v", b.version("A"), s.SettlesIn, err)
	}
	b.SetTimes(Times{Settle: time.Hour})
	b.live(time.Minute)
	if v := b.version("A"); v != "2.0" {
		t.Errorf("slot A holds %s", v)
	}
}

// TestBeforeHealthy: an update that was written before its box was healthy proves itself, and revokes, as any other.
func TestBeforeHealthy(t *testing.T) {
	b := newBox(t)
	must(t, errorOf(b.install(b.bundle("2.0", 2, func(m *bundle.Manifest) { m.Revokes = true }))))
	b.live(time.Minute)
	b.boot(b.power(), "2.0", 2)
	b.live(time.Minute)
	if v := b.version("A"); v != "2.0" || b.counter.floor != 2 {
		t.Errorf("slot A holds %s, security version %d; %q", v, b.counter.floor, b.said)
	}
}

// TestOnTrial: while a slot is on trial the other one holds the only image that was ever healthy.
func TestOnTrial(t *testing.T) {
	b := newBox(t)
	b.live(time.Minute)
	must(t, errorOf(b.install(b.bundle("2.0", 2, nil))))
	b.boot(b.power(), "2.0", 2)
	_, err := b.install(b.bundle("3.0", 3, nil))
	if !errors.Is(err, ErrBlocked) || !strings.Contains(err.Error(), "on trial") || b.version("A") != "1.0" || len(b.counter.open) > 0 {
		t.Errorf("%v; slot A holds %s", err, b.version("A"))
	}
	b.live(time.Minute)
	must(t, errorOf(b.apply(Request{}))) // what was uploaded is still there
	if v := b.version("A"); v != "3.0" {
		t.Errorf("slot A holds %s", v)
	}
}

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
