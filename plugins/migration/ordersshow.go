package migration

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/queue"
)

// remember keeps an order for the history. It is called with mu held.
func (o *orders) remember(e *queue.Entry, now time.Time, why string) {
	var req api.MoveRequest
	_ = json.Unmarshal(e.Order, &req) // without it the names of hosts are missing
	o.refused = append(o.refused[max(0, len(o.refused)-keepRefused+1):len(o.refused):len(o.refused)], api.Move{
		ID: e.ID, VM: e.VM, From: req.Host, To: req.To, State: stateNotBegun, Began: now, Ended: now,
		Template: req.Template, Problem: why,
	})
}

// cancelWaiting takes an order out that has not begun; false when there is none.
func (o *orders) cancelWaiting(ctx context.Context, id string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	out := o.planning[id]
	if b, has := o.booked[id]; has {
		out = b.entry
	}
	if out != nil { // handed out, and not begun
		o.remember(out, now, "cancelled by the operator")
		o.ended(id, false, now)
		o.look()
		return true, o.keep(ctx)
	}
	e := o.queue.Cancel(id, now)
	if e == nil {
		return false, nil
	}
	o.remember(e, now, "cancelled by the operator")
	o.look()
	return true, o.keep(ctx)
}

// waiting lists orders that have not ended, also those which are moves by now.
func (o *orders) waiting() []api.Move {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []api.Move
	for _, w := range o.queue.Open(time.Now()) {
		var req api.MoveRequest
		_ = json.Unmarshal(w.Order, &req) // without it the names of hosts are missing
		x := api.Move{
			ID: w.ID, VM: w.VM, From: req.Host, To: req.To, State: stateWaiting, Doing: cmp.Or(w.Why, "begins"), Begins: w.After, Template: w.Template,
		}
		if b, has := o.booked[w.ID]; has {
			x.State, x.Doing, x.Begins = stateScheduled, b.why, b.at
		}
		list = append(list, x)
	}
	return list
}

// notBegun lists orders that have ended without a move, the oldest first.
func (o *orders) notBegun() []api.Move {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused
}

// template is that of an order, "" for none.
func (o *orders) template(id string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.queue.Template(id)
}

// slot waits until an order has a slot, or has begun or ended, and returns when and why: zero for at once.
func (o *orders) slot(ctx context.Context, id string) (at time.Time, why string) {
	t := time.NewTicker(slotLook)
	defer t.Stop()
	for {
		o.mu.Lock()
		b, booked := o.booked[id]
		open := o.queue.Has(id)
		o.mu.Unlock()
		if _, known := o.m.runner.Move(id); booked || known || !open {
			return b.at, b.why
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return time.Time{}, "has no slot yet"
		}
	}
}

// slotLook is how often a slot that is waited for is looked for.
const slotLook = 20 * time.Millisecond
