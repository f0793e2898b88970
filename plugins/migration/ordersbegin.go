package migration

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
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

// begin plans a move whose turn has come, unless its plan is fresh, and hands it to the runner. Where there is a schedule, it
// has a slot first, and comes here again when that begins.
func (o *orders) begin(ctx context.Context, e *queue.Entry) error {
	var what order
	if err := json.Unmarshal(e.Order, &what); err != nil {
		return fmt.Errorf("read the order: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, planLimit)
	defer cancel()
	p, err := o.planFor(ctx, e.ID, what)
	if err != nil {
		return err
	}
	s := o.m.schedule
	if s == nil {
		return o.m.runner.Start(p)
	}
	if _, has := s.Decision(e.ID); !has {
		if err := o.m.book(ctx, p, what); err != nil {
			return err
		}
	}
	may, at, why := s.May(e.ID)
	if !may && what.Waits() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.plans[e.ID] = made{p, time.Now()}
		o.booked[e.ID] = booking{entry: e, at: at, why: why}
		o.look() // for when that is
		return nil
	}
	if err := o.m.runner.Start(p); err != nil {
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
