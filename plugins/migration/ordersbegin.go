package migration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/queue"
)

// later puts off an order that could not be planned because a host or the gateway did not answer; false when that has
// lasted too long, or is not the reason.
func (o *orders) later(e *queue.Entry, why error) bool {
	if isFinal(why) {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	first, again := o.tried[e.ID]
	if delete(o.tried, e.ID); !again {
		first = now
	}
	if now.Sub(first) >= patience {
		return false
	}
	o.booked[e.ID] = booking{e, now.Add(retryPlan), "will be tried again: " + why.Error(), first}
	o.look()
	return true
}

// begin plans moves whose turn has come, unless their plans are fresh, and hands them to the runner. Where there is a schedule,
// they have slots first, and come here again when those begin. Several have theirs before the first of them begins: a schedule
// that does not know of the others yet cannot put them in order. Measuring takes a second a guest, so they are asked beside each
// other.
func (o *orders) begin(ctx context.Context, list []*queue.Entry) {
	for some := range slices.Chunk(list, asking) {
		ready := make([]turn, len(some))
		var all sync.WaitGroup
		for i, e := range some {
			all.Go(func() { ready[i] = o.ready(ctx, e) })
		}
		all.Wait()
		for i, e := range some {
			if !o.planned(e.ID) {
				continue
			}
			err := ready[i].err
			if err == nil {
				err = o.hand(e, ready[i])
			}
			if err != nil && ctx.Err() == nil && !o.later(e, err) {
				o.refuse(ctx, e, err)
			}
		}
	}
}

// planned tells whether an order is to go on whose hosts were asked: meanwhile it may have been cancelled, or have fallen with
// others.
func (o *orders) planned(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, on := o.planning[id]
	if !on {
		o.forget(id) // it was given a slot since
	}
	delete(o.planning, id)
	return on
}

// turn is an order that can begin, or why it cannot.
type turn struct {
	what order
	plan plan.Plan
	err  error
}

// ready plans a move and gets it a slot.
func (o *orders) ready(ctx context.Context, e *queue.Entry) (t turn) {
	if err := json.Unmarshal(e.Order, &t.what); err != nil {
		t.err = fmt.Errorf("read the order: %w", err)
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, planLimit)
	defer cancel()
	if t.plan, t.err = o.planFor(ctx, e.ID, t.what); t.err != nil || o.m.schedule == nil {
		return t
	}
	if _, has := o.m.schedule.Decision(e.ID); !has {
		t.err = o.m.book(ctx, t.plan, t.what)
	}
	return t
}

// hand gives a move to the runner, or puts it off until its slot.
func (o *orders) hand(e *queue.Entry, t turn) error {
	s := o.m.schedule
	if s == nil {
		return o.m.runner.Start(t.plan)
	}
	may, at, why := s.May(e.ID)
	if !may && t.what.Waits() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.plans[e.ID] = made{t.plan, time.Now()}
		o.booked[e.ID] = booking{entry: e, at: at, why: why}
		o.look() // for when that is
		return nil
	}
	if err := o.m.runner.Start(t.plan); err != nil {
		return err
	}
	s.Began(e.ID)
	return nil
}

// planFor is the plan that was made for the order, or a new one if that is old.
func (o *orders) planFor(ctx context.Context, id string, what order) (plan.Plan, error) {
	o.mu.Lock()
	had := o.plans[id]
	delete(o.plans, id)
	o.mu.Unlock()
	if time.Since(had.at) <= keepPlan {
		return had.plan, nil
	}
	p, refusals, err := o.m.make(ctx, id, what)
	if len(refusals) > 0 {
		return p, &refusedError{refusals}
	}
	return p, err
}

// refusedError is all of a check that speaks against a move.
type refusedError struct{ list []plan.Refusal }

func (e *refusedError) Error() string {
	text := make([]string, len(e.list))
	for i, r := range e.list {
		text[i] = r.String()
	}
	return strings.Join(text, "\n")
}

// refuse ends an order whose move could not begin.
func (o *orders) refuse(ctx context.Context, e *queue.Entry, why error) {
	o.m.log.Warn("a move could not begin", "move", e.ID, "vm", e.VM, "err", why)
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	o.remember(e, now, why.Error())
	o.ended(e.ID, true, now)
	if err := o.keep(ctx); err != nil {
		o.m.log.Error("keep the queue of moves", "err", err)
	}
	o.look()
	o.m.f.changed()
}
