// Package firmwaretest is the conformance suite of firmware.Firmware: what init and core rely on, run
// against every driver.
package firmwaretest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// Rig is a device under test.
type Rig struct {
	// Open opens the device; it may be called again after Close.
	Open func(t *testing.T) firmware.Firmware
	// Reset is a power cycle of the device.
	Reset func(t *testing.T)
	// Image is an image of a version that the device takes.
	Image func(version string) []byte
	// Bad is one that it refuses.
	Bad      []byte
	Strength firmware.Strength
	// Slots is more than 1 when a flash leaves alone what runs.
	Slots int
	// Blocking devices cannot be stopped once a flash has begun.
	Blocking bool
}

// Run runs the suite; rig makes a device that runs version "1.0".
func Run(t *testing.T, rig func(t *testing.T) Rig) {
	t.Run("update", func(t *testing.T) { update(t, rig(t)) })
	t.Run("refused image", func(t *testing.T) { refused(t, rig(t)) })
	t.Run("cancelled", func(t *testing.T) { cancelled(t, rig(t)) })
	t.Run("nothing to activate", func(t *testing.T) { nothing(t, rig(t)) })
	t.Run("back to the other slot", func(t *testing.T) { back(t, rig(t)) })
}

func (r Rig) open(t *testing.T) firmware.Firmware {
	f := r.Open(t)
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// runs checks that the device reads back as a version, and twice the same.
func (r Rig) runs(t *testing.T, f firmware.Firmware, version string) firmware.Reading {
	t.Helper()
	first, err := f.ReadBack(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.ReadBack(t.Context()); err != nil || again != first {
		t.Errorf("read back %v and then %v, %v", first, again, err)
	}
	if first.Strength != r.Strength {
		t.Errorf("strength %s, want %s", first.Strength, r.Strength)
	}
	if first.Version != version {
		t.Fatalf("it runs %q, want %q", first.Version, version)
	}
	if (first.Digest != [32]byte{}) != (r.Strength == firmware.Digest) {
		t.Errorf("digest %x with strength %s", first.Digest, r.Strength)
	}
	components, err := f.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := firmware.Running(components); got != version {
		t.Errorf("the inventory says %q runs, want %q", got, version)
	}
	return first
}

// flash stores and activates; without a reset it checks that nothing changed before Activate.
func (r Rig) flash(t *testing.T, f firmware.Firmware, version, runs string) {
	t.Helper()
	image := r.Image(version)
	var last firmware.Progress
	err := f.Flash(t.Context(), bytes.NewReader(image), int64(len(image)), func(p firmware.Progress) {
		if p.Phase == last.Phase && p.Done < last.Done || p.Total != 0 && p.Done > p.Total {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
	})
	if err != nil {
		t.Fatalf("flash %s: %v", version, err)
	}
	if r.Slots > 1 {
		r.runs(t, f, runs)
	}
	when, err := f.Activate(t.Context())
	if err != nil {
		t.Fatalf("activate %s: %v", version, err)
	}
	if when == firmware.AtReset && r.Slots > 1 {
		if got := r.runs(t, f, runs); got.Next != version {
			t.Errorf("the next reset activates %q, want %q", got.Next, version)
		}
	}
	if when == firmware.AtReset {
		r.Reset(t)
	}
}

func update(t *testing.T, r Rig) {
	f := r.open(t)
	first := r.runs(t, f, "1.0")
	r.flash(t, f, "1.1", "1.0")
	f = r.open(t)
	second := r.runs(t, f, "1.1")
	if r.Strength == firmware.Digest && first.Digest == second.Digest {
		t.Error("another firmware has the same digest")
	}
	if second.Next != "" {
		t.Errorf("the next reset activates %q after it was activated", second.Next)
	}
	r.Reset(t)
	r.runs(t, r.open(t), "1.1")
}

func refused(t *testing.T, r Rig) {
	f := r.open(t)
	err := f.Flash(t.Context(), bytes.NewReader(r.Bad), int64(len(r.Bad)), nil)
	if !errors.Is(err, firmware.ErrImage) {
		t.Errorf("flash: %v, want ErrImage", err)
	}
	r.runs(t, f, "1.0")
	r.Reset(t)
	r.runs(t, r.open(t), "1.0")
}

func cancelled(t *testing.T, r Rig) {
	f := r.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	image := r.Image("1.1")
	if err := f.Flash(ctx, bytes.NewReader(image), int64(len(image)), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("flash: %v, want cancelled", err)
	}
	r.runs(t, f, "1.0")
	if r.Blocking {
		return
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err := f.Flash(ctx, bytes.NewReader(image), int64(len(image)), func(firmware.Progress) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("flash cancelled on its way: %v, want cancelled", err)
	}
	if r.Slots > 1 {
		r.Reset(t)
		r.runs(t, r.open(t), "1.0")
	}
}

func nothing(t *testing.T, r Rig) {
	if r.Blocking {
		return // the driver leaves activation to the device
	}
	f := r.open(t)
	if _, err := f.Activate(t.Context()); err == nil {
		t.Error("activated although nothing was flashed")
	}
	r.runs(t, f, "1.0")
}

func back(t *testing.T, r Rig) {
	f := r.open(t)
	if _, ok := f.(firmware.Selecter); !ok || r.Slots < 2 {
		return
	}
	before := r.runs(t, f, "1.0")
	r.flash(t, f, "1.1", "1.0")
	f = r.open(t)
	s, ok := f.(firmware.Selecter)
	if !ok {
		t.Fatal("it had slots before")
	}
	for _, slot := range []string{"99", "-1", "", "x"} {
		if err := s.Select(t.Context(), slot); err == nil {
			t.Errorf("selected slot %q", slot)
		}
	}
	if err := s.Select(t.Context(), before.Slot); err != nil {
		t.Fatal(err)
	}
	when, err := f.Activate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if when == firmware.AtReset {
		r.Reset(t)
	}
	if after := r.runs(t, r.open(t), "1.0"); after != before {
		t.Errorf("back to %+v, it was %+v", after, before)
	}
}
