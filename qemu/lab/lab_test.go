package lab

import (
	"testing"
	"time"
)

// TestMovedMemory is the proof that RAM gets around QEMU's fault under TCG: a guest that writes while it moves keeps every
// page. With 256 MiB it does not.
func TestMovedMemory(t *testing.T) {
	l := New(t)
	g, err := l.Guest("moved")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	start := time.Now()
	a, err := g.Bare(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("restored in %v", time.Since(start))
	if id, err := a.Agent.Ping(ctx); err != nil || id != g.BootID {
		t.Fatalf("boot ID %q, %v; want %q", id, err, g.BootID)
	}
	if err := g.Memory(ctx, 64, 20<<20); err != nil {
		t.Fatal(err)
	}
	b, err := g.BareTarget(ctx, "b", g.Shape)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := a.Move(ctx, b, nil); err != nil {
		t.Fatal(err)
	}
	moved := time.Since(began)
	if err := g.Beating(ctx); err != nil {
		t.Fatal(err)
	}
	gap, lost := g.Beats.Gap(began, time.Now())
	r, err := g.VerifyMemory(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("moved in %v, silent for %v, %d beats lost, %d pages read, %d written", moved, gap, lost, r.Checked, r.Written)
	if r.Checked != 64<<8 || r.Written == 0 {
		t.Errorf("verified %+v", r)
	}
	if err := g.Runners.Err(); err != nil {
		t.Error(err)
	}
	if running := g.Runners.Running(); len(running) != 1 || running[0] != "b" {
		t.Errorf("running: %v", running)
	}
	if twins := g.Beats.Twins(); len(twins) > 0 {
		t.Errorf("beats that came twice: %v", twins)
	}
	if id, err := b.Agent.Ping(ctx); err != nil || id != g.BootID {
		t.Errorf("boot ID after the move %q, %v", id, err)
	}
}
