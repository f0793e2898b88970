package trial

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run"
	"github.com/ratchetos/ratchet/qemu/lab"
)

func open(t *testing.T, o Options) *Rig {
	t.Helper()
	r, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// load has the guest write memory and disk.
func (r *Rig) load(ctx context.Context, mib int, rate int64) error {
	return errors.Join(r.Guest.Memory(ctx, mib, rate), r.Guest.Disk(ctx, serial, 256, 50))
}

// TestPlain moves a guest that writes memory and disk there and back.
func TestPlain(t *testing.T) {
	t.Parallel()
	r := open(t, Options{Disk: true})
	ctx := t.Context()
	for range 2 {
		if err := r.load(ctx, 32, 4<<20); err != nil {
			t.Fatal(err)
		}
		p, err := r.Plan(ctx, model.VMType{}, model.Goal{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Move(ctx, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: transfer %s, gap %s, silence %s, in all %s, %d MB, %d passes; %v", res.Outcome, res.Took, res.Gap, res.Silence, res.Total, res.Transferred>>20, res.Passes, res.Why)
		if res.Outcome != run.Moved {
			t.Fatalf("%+v", res.Status)
		}
		if err := r.Proof(ctx, false); err != nil {
			t.Error(err)
		}
	}
}

// TestRetype makes another machine of the guest while it moves: less memory and another card before, a second processor
// after; then more memory after, and the first card again.
func TestRetype(t *testing.T) {
	t.Parallel()
	r := open(t, Options{Disk: true})
	ctx := t.Context()
	if err := r.grow(ctx, model.VirtioMem{ID: "vmem0", Max: 512 << 20, Bus: "pci.0", Addr: "0x5"}, 128<<20); err != nil {
		t.Fatal(err)
	}
	for _, ty := range []model.VMType{
		{VCPUs: 2, Memory: strict.Size(lab.RAM + 64<<20), NIC: "e1000"},
		{Memory: strict.Size(lab.RAM + 256<<20), NIC: "virtio-net-pci"},
	} {
		if err := r.load(ctx, 32, 1<<20); err != nil {
			t.Fatal(err)
		}
		p, err := r.Plan(ctx, ty, model.Goal{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Move(ctx, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d steps in %s, transfer %s, gap %s, silence %s; %s", res.Outcome, res.Steps, res.Total, res.Took, res.Gap, res.Silence, res.Problem)
		if res.Outcome != run.Moved {
			t.Fatalf("%+v", res.Status)
		}
		if shape, err := r.Shape(ctx); err != nil || !plan.Reached(shape, p.After) {
			t.Errorf("it is %+v, %v", shape, err)
		}
		if err := r.Proof(ctx, false); err != nil {
			t.Error(err)
		}
	}
}

// grow gives the guest a device for more memory, and so much of it.
func (r *Rig) grow(ctx context.Context, v model.VirtioMem, bytes uint64) error {
	p, err := r.Port(ctx, r.On, max(1, r.epoch))
	if err != nil {
		return err
	}
	defer p.Close()
	guest := dialAgent(p)
	defer guest.Close()
	if _, err := guest.Augment(ctx, model.CanVirtioMem); err != nil {
		return err
	}
	if err := p.Plug(ctx, VM, hypervisor.Plug{VirtioMem: &v}); err != nil {
		return err
	}
	if got, err := p.Resize(ctx, VM, v.ID, bytes); err != nil || got != bytes {
		return fmt.Errorf("the guest has grown by %d bytes: %w", got, err)
	}
	return nil
}

var (
	moves = flag.Int("moves", 2, "how many moves TestMoves does")
	seed  = flag.Uint64("seed", 7, "what their faults are drawn from")
)

// TestGoals lets a guest write faster than the move may send: what the goal allows brings it over, or it stays.
func TestGoals(t *testing.T) {
	r := open(t, Options{})
	ctx := t.Context()
	for _, c := range []struct {
		name    string
		goal    model.Goal
		outcome run.Outcome
		mode    string
	}{
		{"nothing allowed", model.Goal{Bandwidth: 20 << 20}, run.Undone, ""},
		// Without a limit of its own the rest goes as fast as the link, and where that is faster than the guest there is
		// nothing left to do after the switch.
		{"post-copy", model.Goal{Bandwidth: 20 << 20, AllowPostCopy: true, PostCopyBandwidth: 20 << 20}, run.Moved, "post-copy"},
	} {
		if err := r.Guest.Memory(ctx, 64, 32<<20); err != nil {
			t.Fatal(err)
		}
		p, err := r.Plan(ctx, model.VMType{}, c.goal)
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Move(ctx, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s by %q in %s, gap %s, silence %s, predicted %s; %s %q", c.name, res.Outcome, res.Mode, res.Total, res.Gap, res.Silence, res.Predicted, res.Problem, res.Why)
		// Whether it is found out before the start or on the way depends on how fast this machine lets the guest write.
		if res.Outcome != c.outcome || c.mode != "" && res.Mode != c.mode {
			t.Errorf("%s: %+v", c.name, res.Status)
		}
		if err := r.Proof(ctx, false); err != nil {
			t.Error(err)
		}
	}
}

// TestMoves moves a guest again and again, with faults, and proves after each that nothing was lost and nobody ran twice.
func TestMoves(t *testing.T) {
	t.Parallel()
	r := open(t, Options{Disk: true, Policy: run.Policy{Stall: 3 * time.Second}}) // less patient: it is done often
	ctx := t.Context()
	lost, faults := 0, 0
	for i := range *moves {
		f := draw(rand.New(rand.NewPCG(*seed, uint64(i))), r.On, other(r.On))
		if f.kind != None {
			faults++
		}
		begun := time.Now()
		res, err := r.trial(ctx, f)
		t.Logf("move %d, %v: %s in %s, gap %s, %s; %s", i+1, f, cmp.Or(string(res.Outcome), "held"), time.Since(begun).Round(time.Millisecond), res.Gap, res.Silence, res.Problem)
		if err != nil {
			lost++
			t.Errorf("move %d, %v: %v\n%+v", i+1, f, err, res.Status)
		}
		if err != nil || res.Outcome == run.Lost || res.Held {
			if err := r.Renew(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("%d faults", faults)
	t.Logf("soak migration.move %d tried, %d lost", *moves, lost)
}

// trial is one move and what must be true after it.
func (r *Rig) trial(ctx context.Context, f *fault) (Result, error) {
	if err := r.load(ctx, 24, 8<<20); err != nil {
		return Result{}, err
	}
	p, err := r.Plan(ctx, model.VMType{}, model.Goal{})
	if err != nil {
		return Result{}, err
	}
	res, err := r.Move(ctx, p, f)
	if err != nil {
		return res, err
	}
	gone := res.Outcome == run.Lost || res.Held && res.Committed
	if gone && f.kind != KillSource && f.kind != KillTarget {
		return res, errors.New("the VM is gone, and nobody killed it")
	}
	if res.Held && !gone {
		return res, errors.New("it waits for an operator")
	}
	// A source that was killed before the destination was whole is lost whatever is done; a killed destination never is.
	if gone && f.kind == KillTarget && f.call != "after Complete "+p.From && f.call != "after Finish "+p.To {
		return res, errors.New("the VM is gone, and only its destination was killed")
	}
	if res.Outcome == run.Undone {
		shape, err := r.Shape(ctx)
		if err != nil {
			return res, err
		}
		if !plan.Reached(shape, p.Before) {
			return res, fmt.Errorf("undone, and its shape is %+v", shape)
		}
	}
	return res, r.Proof(ctx, gone)
}
