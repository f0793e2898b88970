package firmware

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	fw "github.com/ratchetos/ratchet/hw/firmware"
	"github.com/ratchetos/ratchet/hw/sim"
)

const id = "serial:05.0"

func TestFlash(t *testing.T) {
	for name, tt := range map[string]struct {
		o     sim.Options
		state string
	}{
		"at once":      {sim.Options{}, Activated},
		"at reset":     {sim.Options{AtReset: true}, AtReset},
		"version only": {sim.Options{AtReset: true, Strength: new(fw.Version)}, AtReset},
		"tells none":   {sim.Options{Strength: new(fw.None)}, Activated},
		"one slot":     {sim.Options{Slots: 1}, Activated},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, map[string]sim.Options{"05.0": tt.o})
			var last fw.Progress
			r, err := b.Flash(t.Context(), id, pack(t, "1.1"), "alice", func(p fw.Progress) { last = p })
			if err != nil || r.State != tt.state || r.Attempt != 1 || last.Done != 200_000 {
				t.Fatalf("%+v, %v, progress %+v", r, err, last)
			}
			if i := b.open[0]; i.Signer != "alice" || i.Target != "device:"+id || i.From.Matches(i.To) && tt.o.Strength == nil {
				t.Errorf("intent %+v", i)
			}
			if tt.state == AtReset {
				if _, err := b.Flash(t.Context(), id, pack(t, "1.2"), "alice", nil); !errors.Is(err, ErrPending) {
					t.Errorf("a second update before the boot: %v", err)
				}
			}
			if out := b.boot(false); out.Closed != 1 || b.verdictOn(id).Code != "closed" {
				t.Errorf("after the boot: %+v", out)
			}
			if v := b.boot(false); len(v.Devices) != 1 || b.verdictOn(id).Code != "ok" {
				t.Errorf("after the next boot: %+v", v.Devices)
			}
		})
	}
}

// TestPendingUntold: that an update waits for the next boot is known also where the driver does not say so.
func TestPendingUntold(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {AtReset: true}})
	b.mute = true
	if r, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); err != nil || r.State != AtReset {
		t.Fatal(r, err)
	}
	if _, err := b.Flash(t.Context(), id, pack(t, "1.2"), "", nil); !errors.Is(err, ErrPending) || len(b.open) != 1 {
		t.Errorf("a second update before the boot: %v, %d attempts", err, len(b.open))
	}
	b.boot(false)
	if r, err := b.Flash(t.Context(), id, pack(t, "1.2"), "", nil); err != nil || r.State != AtReset {
		t.Errorf("after the boot: %+v, %v", r, err)
	}
}

func TestNothingToDo(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}})
	if _, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); err != nil {
		t.Fatal(err)
	}
	b.boot(false)
	if r, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); err != nil || r.State != Unchanged || r.Attempt != 0 || len(b.open) != 0 {
		t.Errorf("%+v, %v; %d attempts", r, err, len(b.open))
	}
}

// TestRefused: whatever is wrong before the attempt leaves no trace.
func TestRefused(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {}, "06.0": {}})
	b.tool("06.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "6.6.6", 5000)) })
	b.boot(false)
	other := packed(t, []string{"Intel X710", "8086:1572"}, "sim", "1.1")
	foreign, err := OpenPackage(bytes.NewReader(other), int64(len(other)), bundle.Keys{&vendor.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		selector string
		p        *Package
		want     error
		text     string
	}{
		"other device":    {id, foreign, ErrOther, "serial:05.0 is simulated device (1af4:1042)"},
		"no such device":  {"serial:nobody", pack(t, "1.1"), nil, "no device serial:nobody"},
		"isolated device": {"serial:06.0", pack(t, "1.1"), inventory.ErrNotReleased, "ratchetctl firmware recover serial:06.0"},
	} {
		_, err := b.Flash(t.Context(), tt.selector, tt.p, "", nil)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.refuse = errors.New("the counter is not in order")
	if _, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); !errors.Is(err, b.refuse) {
		t.Errorf("without an attempt: %v", err)
	}
	if r, err := b.read(b.devices[0]); err != nil || r.Version == "1.1" || len(b.open) != 0 {
		t.Errorf("something was done: %v %v, %d attempts", r, err, len(b.open))
	}
}

func TestBadPackage(t *testing.T) {
	good := packed(t, []string{"simulated device"}, "sim", "1.1")
	for name, tt := range map[string]struct {
		b    []byte
		keys bundle.Keys
		want error
	}{
		"truncated": {good[:70_000], bundle.Keys{&vendor.PublicKey}, bundle.ErrDamaged},
		"altered":   {bytes.Replace(good, []byte("version=1.1"), []byte("version=1.2"), 1), bundle.Keys{&vendor.PublicKey}, bundle.ErrDamaged},
		"no key":    {good, nil, bundle.ErrSigner},
		"no tar":    {[]byte("firmware"), bundle.Keys{&vendor.PublicKey}, bundle.ErrDamaged},
	} {
		if _, err := OpenPackage(bytes.NewReader(tt.b), int64(len(tt.b)), tt.keys); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// TestEveryFault stops the update at every point of the device, boots, and brings the device back where
// the boot isolated it: what a power cut leaves is what the fault leaves. In the end it always runs the
// old or the new firmware, released.
func TestEveryFault(t *testing.T) {
	for _, slots := range []int{1, 2} {
		for _, atReset := range []bool{false, true} {
			for _, point := range sim.Points() {
				t.Run(fmt.Sprintf("%d slots, at reset %t, %s", slots, atReset, point), func(t *testing.T) {
					b := newBox(t, map[string]sim.Options{"05.0": {Slots: slots, AtReset: atReset}})
					b.tool("05.0", func(d *sim.Device) error { return d.SetFault(sim.Fault{Point: point}) })
					if _, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); err == nil {
						t.Fatal("the update did not notice")
					}
					if want := map[bool]int{true: 0, false: 1}[point == sim.Read]; len(b.open) != want {
						t.Errorf("%d attempts are open, want %d", len(b.open), want)
					}
					b.tool("05.0", func(d *sim.Device) error { return d.SetFault(sim.Fault{}) })
					b.boot(false)
					half := slots == 1 && (point == sim.Write || point == sim.Commit)
					if v := b.verdictOn(id); (v.Decision != verdict.Released) != half {
						t.Errorf("after the boot: %+v", v)
					}
					if half {
						if r, err := b.Recover(t.Context(), id, pack(t, "1.1"), "", nil); err != nil || r.State == Failed {
							t.Fatalf("recover: %+v, %v", r, err)
						}
						b.boot(false)
					}
					if v := b.verdictOn(id); v.Decision != verdict.Released {
						t.Errorf("in the end it is %+v", v)
					}
					if r, err := b.read(b.devices[0]); err != nil || r.Version != "1.0" && r.Version != "1.1" {
						t.Errorf("it runs %v, %v", r, err)
					}
				})
			}
		}
	}
}

// TestFailedUpdateTakesTheDeviceOutOfUse at once, not only at the next boot.
func TestFailedUpdateTakesTheDeviceOutOfUse(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {Slots: 1}})
	b.tool("05.0", func(d *sim.Device) error { return d.SetFault(sim.Fault{Point: sim.Commit}) })
	r, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil)
	if !errors.Is(err, sim.ErrFault) || r.State != Failed || r.Attempt != 1 || r.Problem == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if d, err := b.inv.Resolve(id); err != nil || d.Verdict.Decision != verdict.Isolated {
		t.Errorf("%+v, %v, want it isolated", d.Verdict, err)
	}
	if last := b.last(t.Context(), id); last == nil || last.Problem != r.Problem {
		t.Errorf("recorded %+v", last)
	}
}

func TestRecover(t *testing.T) {
	tampered := func(t *testing.T, o sim.Options) *box {
		b := newBox(t, map[string]sim.Options{"05.0": o})
		if _, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); err != nil {
			t.Fatal(err)
		}
		b.boot(false)
		slot := 1 % max(o.Slots, 1)
		if o.Slots == 0 {
			slot = 1
		}
		b.tool("05.0", func(d *sim.Device) error { return d.Tamper(slot, sim.Image("sim", "6.6.6", 9000)) })
		b.boot(false)
		if v := b.verdictOn(id); v.Code != "firmware-changed" || v.Next != "ratchetctl firmware recover "+id {
			t.Fatalf("%+v", v)
		}
		return b
	}
	released := func(t *testing.T, b *box, version string) {
		t.Helper()
		if b.devices[0].Driver != "" {
			t.Error("the device has a driver before the boot released it")
		}
		b.boot(false)
		if v := b.verdictOn(id); v.Decision != verdict.Released {
			t.Errorf("after the boot: %+v", v)
		}
		if r, err := b.read(b.devices[0]); err != nil || r.Version != version {
			t.Errorf("it runs %v, %v, want %s", r, err, version)
		}
	}
	t.Run("by a package", func(t *testing.T) {
		b := tampered(t, sim.Options{})
		if r, err := b.Recover(t.Context(), id, pack(t, "1.2"), "", nil); err != nil || r.State != Activated {
			t.Fatalf("%+v, %v", r, err)
		}
		released(t, b, "1.2")
	})
	t.Run("no slot holds what is known", func(t *testing.T) {
		b := tampered(t, sim.Options{Slots: 1})
		_, err := b.Recover(t.Context(), id, nil, "", nil)
		if !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), "FILE") || len(b.open) != 0 {
			t.Errorf("%v, %d attempts", err, len(b.open))
		}
	})
	t.Run("from another slot", func(t *testing.T) {
		b := newBox(t, map[string]sim.Options{"05.0": {AtReset: true}})
		// Somebody made the box run other firmware and left the old one where it was.
		b.tool("05.0", func(d *sim.Device) error {
			return errors.Join(d.Tamper(1, sim.Image("sim", "6.6.6", 9000)), d.Select(t.Context(), "1"), func() error { _, err := d.Activate(t.Context()); return err }())
		})
		b.boot(false)
		if v := b.verdictOn(id); v.Code != "firmware-changed" {
			t.Fatalf("%+v", v)
		}
		if r, err := b.Recover(t.Context(), id, nil, "", nil); err != nil || r.State != AtReset {
			t.Fatalf("%+v, %v", r, err)
		}
		released(t, b, "1.0")
	})
	t.Run("it runs what a package holds", func(t *testing.T) {
		b := newBox(t, map[string]sim.Options{"05.0": {}})
		b.tool("05.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "1.1", 200_000)) })
		b.boot(false)
		r, err := b.Recover(t.Context(), id, pack(t, "1.1"), "", nil)
		if err != nil || r.Attempt != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		released(t, b, "1.1")
	})
	t.Run("not for it", func(t *testing.T) {
		b := tampered(t, sim.Options{})
		p := pack(t, "1.2")
		p.Manifest.Models = []string{"another"}
		if _, err := b.Recover(t.Context(), id, p, "", nil); !errors.Is(err, ErrOther) || len(b.open) != 0 || b.devices[0].Driver != "" {
			t.Errorf("%v; %d attempts, driver %q", err, len(b.open), b.devices[0].Driver)
		}
	})
	t.Run("released or unknown", func(t *testing.T) {
		b := newBox(t, map[string]sim.Options{"05.0": {}})
		for _, selector := range []string{id, "serial:nobody"} {
			if _, err := b.Recover(t.Context(), selector, nil, "", nil); !errors.Is(err, ErrNothing) {
				t.Errorf("%s: %v", selector, err)
			}
		}
	})
}

func TestListAndVerify(t *testing.T) {
	b := newBox(t, map[string]sim.Options{"05.0": {AtReset: true}, "06.0": {}})
	if _, err := b.Flash(t.Context(), id, pack(t, "1.1"), "", nil); err != nil {
		t.Fatal(err)
	}
	list, err := b.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%d devices, %v", len(list), err)
	}
	if l := list[0]; l.Reading.Version != "1.0" || l.Reading.Next != "1.1" || l.Attempt != 1 || l.Last == nil || l.Expected == nil || len(l.Components[0].Slots) != 2 {
		t.Errorf("%+v", l)
	}
	b.tool("06.0", func(d *sim.Device) error { return d.Tamper(0, sim.Image("sim", "1.0", 5000)) })
	checks, err := b.Verify(t.Context(), "")
	if err != nil || len(checks) != 2 || checks[0].Verdict.Decision != verdict.Released || checks[1].Verdict.Code != "firmware-changed" {
		t.Errorf("%+v, %v", checks, err)
	}
	b.boot(false)
	list, err = b.List(t.Context())
	if err != nil || len(list) != 2 || list[1].Err == nil || list[1].Device.ID != "serial:06.0" {
		t.Errorf("with one isolated: %+v, %v", list, err)
	}
	if checks, err := b.Verify(t.Context(), "serial:06.0"); err != nil || len(checks) != 1 || checks[0].Verdict.Decision != verdict.Isolated {
		t.Errorf("verify an isolated device: %+v, %v", checks, err)
	}
}
