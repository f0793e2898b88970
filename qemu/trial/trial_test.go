package trial

import (
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run"
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

// TestPlain moves a guest that writes memory and disk there and back.
func TestPlain(t *testing.T) {
	r := open(t, Options{Disk: true})
	ctx := t.Context()
	for range 2 {
		if err := r.Guest.Memory(ctx, 32, 4<<20); err != nil {
			t.Fatal(err)
		}
		if err := r.Guest.Disk(ctx, serial, 512, 50); err != nil {
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
