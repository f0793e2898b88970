package migration

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/queue"
	"github.com/ratchetos/ratchet/plugins/migration/template"
)

// byHand is the queue of a process whose goroutine is stopped, with a batch of one wave in it, in which nothing may fail. IDs are
// names of VMs.
func (h *house) byHand(t *testing.T, vms ...string) *orders {
	t.Helper()
	h.open(t, "")
	o := h.moves.orders
	o.stop()
	o.done = nil
	b := &queue.Batch{Rollout: template.Rollout{Waves: [][]string{vms}}}
	for _, vm := range vms {
		e, err := entry(vm, order{MoveRequest: api.MoveRequest{VM: vm, Host: "rack1", To: "rack2"}})
		if err != nil {
			t.Fatal(err)
		}
		b.Entries = append(b.Entries, e)
	}
	if err := o.add(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return o
}

// turns are the IDs of what begins next.
func (o *orders) turns(t *testing.T) (list []*queue.Entry, ids []string, err error) {
	t.Helper()
	list, _, err = o.next(t.Context())
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return list, ids, err
}

// book makes an order that was handed out wait. What is shown of the moves is read meanwhile.
func (o *orders) book(b booking) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.planning, b.entry.ID)
	o.booked[b.entry.ID] = b
}

// TestTurnOutlivesAStoreThatFails: what was due when the queue could not be kept begins all the same, it had been kept before.
func TestTurnOutlivesAStoreThatFails(t *testing.T) {
	h := newHouse(t)
	o := h.byHand(t, "web1", "web2")
	all, ids, err := o.turns(t)
	if err != nil || !slices.Equal(ids, []string{"web1", "web2"}) {
		t.Fatalf("%v begin: %v", ids, err)
	}
	o.book(booking{entry: all[0], first: time.Now()}) // tried again, and due
	if err := o.add(t.Context(), queue.Single(&queue.Entry{ID: "web3", VM: "web3", Order: all[1].Order}, 0)); err != nil {
		t.Fatal(err)
	}
	h.box.fail(errors.New("no space"))
	if _, ids, err := o.turns(t); err == nil || !slices.Equal(ids, []string{"web1"}) {
		t.Errorf("%v begin with a store that fails: %v", ids, err)
	}
	h.box.fail(nil)
	if _, ids, err := o.turns(t); err != nil || !slices.Equal(ids, []string{"web3"}) {
		t.Errorf("then %v begin: %v", ids, err)
	}
}

// TestCancelledOrderIsForgotten: one whose end could not be kept is taken off what is kept as soon as the store takes it, and does not
// begin in the next process.
func TestCancelledOrderIsForgotten(t *testing.T) {
	h := newHouse(t)
	o := h.byHand(t, "web1")
	h.box.fail(errors.New("no space"))
	if _, err := h.Invoke(t.Context(), api.MethodCancel, []byte(`{"id": "web1"}`)); err == nil {
		t.Error("a cancel that could not be kept is told as done")
	}
	h.box.fail(nil)
	for range 2 { // also when nothing else has happened
		if _, _, err := o.turns(t); err != nil {
			t.Fatal(err)
		}
	}
	text, err := h.box.Get(t.Context(), stateQueue)
	if err != nil || strings.Contains(string(text), `"web1"`) {
		t.Errorf("kept is %s, %v", text, err)
	}
}

// TestCancelWhileItIsPlanned: an order whose hosts are being asked can be cancelled, and does not begin once they have answered.
func TestCancelWhileItIsPlanned(t *testing.T) {
	h := newHouse(t)
	o := h.byHand(t, "web1", "web2")
	all, _, err := o.turns(t)
	if err != nil {
		t.Fatal(err)
	}
	invoke[none](h.started, api.MethodCancel, api.IDRequest{ID: "web1"})
	o.begin(t.Context(), all)
	if m := h.ended(t, "web1"); m.State != stateNotBegun || !strings.Contains(m.Problem, "cancelled") {
		t.Errorf("cancelled: %+v", m)
	}
	if m := h.ended(t, "web2"); m.State != "moved" {
		t.Errorf("the other: %+v", m)
	}
	h.runsOn(t, "web1", "rack1")
}

// TestBudgetHoldsForWhatWaitsForItsSlot: when too many of a batch have failed, those that have slots fall with the others.
func TestBudgetHoldsForWhatWaitsForItsSlot(t *testing.T) {
	h := newHouse(t)
	o := h.byHand(t, "web1", "web2", "web3")
	all, _, err := o.turns(t)
	if err != nil {
		t.Fatal(err)
	}
	o.book(booking{entry: all[1], at: time.Now().Add(time.Hour), first: time.Now()}) // and web3 is being planned
	o.refuse(t.Context(), all[0], errors.New("no room"))
	o.begin(t.Context(), all[2:])
	for _, id := range []string{"web2", "web3"} {
		if m := h.ended(t, id); m.State != stateNotBegun || !strings.Contains(m.Problem, "the budget is 0") {
			t.Errorf("%s after the failure: %+v", id, m)
		}
	}
	if len(o.booked) > 0 || len(o.queue.Batches) > 0 {
		t.Errorf("%d have slots, %d batches are left", len(o.booked), len(o.queue.Batches))
	}
}
