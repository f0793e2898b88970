package trial

import (
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/run"
)

// frozen is more silence than a guest may fall into because of a peer that says nothing. It is not even noticed, but for the
// load of this machine; a QEMU that waits itself stands still for as long as that peer likes.
const frozen = 2 * time.Second

// TestHandshake lets the destination stall in the TLS handshake, on either side of it: the guest does not notice, the move is
// undone, and the next one works.
func TestHandshake(t *testing.T) {
	t.Parallel()
	r := open(t, Options{Policy: run.Policy{Stall: time.Second}})
	ctx := t.Context()
	for _, f := range []*fault{
		{kind: Vanish, bytes: 0},   // before the client's hello
		{kind: Stall, bytes: 242},  // in the hello
		{kind: Mute, bytes: 100},   // in the server's answer
		{kind: Stall, bytes: 1000}, // in the client's certificate
		{kind: None},
	} {
		f.from, f.to = r.On, other(r.On)
		if err := r.Guest.Memory(ctx, 8, 1<<20); err != nil {
			t.Fatal(err)
		}
		p, err := r.Plan(ctx, model.VMType{}, model.Goal{})
		if err != nil {
			t.Fatal(err)
		}
		res, err := r.Move(ctx, p, f)
		if err != nil {
			t.Fatalf("%v: %v\n%+v", f, err, res.Status)
		}
		t.Logf("%v: %s in %s, silence %s; %s", f, res.Outcome, res.Total, res.Silence, res.Problem)
		if err := r.Proof(ctx, false); err != nil {
			t.Errorf("%v: %v", f, err)
		}
		if f.kind == None {
			if res.Outcome != run.Moved {
				t.Errorf("the move after them: %+v", res.Status)
			}
			continue
		}
		if res.Outcome != run.Undone || r.On != p.From || !strings.Contains(res.Problem, "look at the link") {
			t.Errorf("%v: it stays on %s: %+v", f, r.On, res.Status)
		}
		if res.Silence >= frozen {
			t.Errorf("%v: the guest stood still for %s", f, res.Silence)
		}
	}
}

// TestVanishAtSwitch takes the destination from the network when the source has stopped: QEMU sends what is left with its
// big lock held and hears nothing, not even that the move is off. The host's agent ends that.
func TestVanishAtSwitch(t *testing.T) {
	t.Parallel()
	r := open(t, Options{Policy: run.Policy{Switch: time.Second}})
	ctx := t.Context()
	if err := r.Guest.Memory(ctx, 32, 1<<20); err != nil {
		t.Fatal(err)
	}
	// It stops early and has much left: more than fits into the buffers of the link.
	p, err := r.Plan(ctx, model.VMType{}, model.Goal{MaxGap: strict.Duration(10 * time.Second), Bandwidth: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Move(ctx, p, &fault{kind: Vanish, call: "after Switchover " + r.On, from: r.On, to: other(r.On)})
	if err != nil {
		t.Fatalf("%v\n%+v", err, res.Status)
	}
	t.Logf("%s in %s, silence %s; %s", res.Outcome, res.Total, res.Silence, res.Problem)
	if res.Outcome != run.Undone {
		t.Errorf("%+v", res.Status)
	}
	if err := r.Proof(ctx, false); err != nil {
		t.Error(err)
	}
}
