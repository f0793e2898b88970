package migration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/queue"
	"github.com/ratchetos/ratchet/plugins/migration/run"
)

const (
	// stateQueue is where the queue is kept.
	stateQueue = "queue"
	// keepPlan is for how long a plan that was shown to the operator is carried out without asking the hosts again.
	keepPlan = 10 * time.Second
	// keepRefused is how many orders that never became moves are remembered.
	keepRefused = 100
	// planLimit bounds asking hosts and guest for a plan.
	planLimit = 30 * time.Second
	// manyBooked is more than any queue has.
	manyBooked = 1 << 20
	// patience is for how long an order is tried again whose hosts do not answer, each retryPlan.
	patience  = 10 * time.Minute
	retryPlan = time.Second
	// retryKeep is the pause after a state store that would not keep the queue.
	retryKeep = 5 * time.Second
)

// orders is the queue of moves over the state store and the runner. One goroutine begins moves.
type orders struct {
	m    *mover
	wake chan struct{}

	mu     sync.Mutex
	queue  *queue.Queue
	plans  map[string]made    // by ID: of orders that are about to begin
	booked map[string]booking // by ID: orders that were handed out and have not begun
	// planning are orders that were handed out and whose hosts are being asked, by ID.
	planning map[string]*queue.Entry
	// tried are orders that are being tried again, by ID, with the time of the first try.
	tried   map[string]time.Time
	refused []api.Move // orders that have ended without a move
	unkept  bool       // the queue has changed since it was written

	cancel context.CancelFunc
	done   chan struct{} // nil until start
}

type made struct {
	plan plan.Plan
	at   time.Time
}

// booking is an order that was handed out and waits: for its slot, or to be tried again.
type booking struct {
	entry *queue.Entry
	at    time.Time // zero while nobody knows
	why   string
	// first is when it was tried first, of one that could not be planned because somebody did not answer.
	first time.Time
}

// openOrders reads what an earlier process has kept.
func openOrders(ctx context.Context, m *mover) (*orders, error) {
	text, err := m.core.Get(ctx, stateQueue)
	if err != nil {
		return nil, err
	}
	q, err := queue.Read(text)
	if err != nil {
		return nil, err
	}
	q.Reconcile(func(id string) bool { _, known := m.runner.Move(id); return known })
	return &orders{m: m, queue: q, plans: map[string]made{}, booked: map[string]booking{}, planning: map[string]*queue.Entry{}, tried: map[string]time.Time{}, wake: make(chan struct{}, 1)}, nil
}

// look asks for another look at what can begin. It never blocks.
func (o *orders) look() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *orders) start() {
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel, o.done = cancel, make(chan struct{})
	o.look()
	go o.run(ctx)
}

// stop returns when no more move is begun.
func (o *orders) stop() {
	if o.done == nil {
		return
	}
	o.cancel()
	<-o.done
}

func (o *orders) run(ctx context.Context) {
	defer close(o.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-o.wake:
		case <-timer.C:
		}
		begin, again, err := o.next(ctx)
		o.m.f.changed()
		if err != nil {
			o.m.log.Error("keep the queue of moves", "err", err)
			again = time.Now().Add(retryKeep)
		}
		o.begin(ctx, begin)
		timer.Reset(time.Hour)
		if !again.IsZero() {
			timer.Reset(time.Until(again))
		}
	}
}

// next takes out what has ended and hands out what may begin: of the queue, and of what was handed out before and waited
// for its slot. What is handed out has been kept: should the process die now, the next one knows of it.
func (o *orders) next(ctx context.Context) (begin []*queue.Entry, again time.Time, err error) {
	config, rows := o.m.f.snapshot() // before mu: events are made the other way round
	now, busy, free := time.Now(), map[string]bool{}, config.atOnce()
	for _, s := range o.m.runner.Moves() {
		if s.Outcome == "" {
			busy[s.VM] = true
			free--
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := o.unkept
	for _, id := range o.queue.Begun() {
		s, known := o.m.runner.Move(id)
		if known && s.Outcome != "" {
			if s.Outcome == run.Moved {
				if err := o.m.gave(ctx, rows, s.VM, typeGiven(o.queue.Entry(id))); err != nil {
					o.m.log.Warn("templates will not select by what a VM was given", "vm", s.VM, "err", err)
				}
			}
			o.ended(id, s.Outcome != run.Moved && s.Outcome != run.Partly, now)
			changed = true
		}
	}
	due, next := o.due(now, max(0, free))
	defer func() {
		for _, e := range begin {
			o.planning[e.ID] = e
		}
	}()
	free -= len(due)
	if o.m.schedule != nil {
		free = manyBooked // they get their slots together, and are counted when these begin
	}
	begin, again = o.queue.Next(now, max(0, free), func(vm string) bool { return busy[vm] })
	if !next.IsZero() && (again.IsZero() || next.Before(again)) {
		again = next
	}
	if changed || len(begin) > 0 {
		if err := o.keep(ctx); err != nil {
			o.queue.Reconcile(func(id string) bool {
				return !slices.ContainsFunc(begin, func(e *queue.Entry) bool { return e.ID == id })
			})
			return due, again, err // they were kept when they were handed out
		}
	}
	return append(due, begin...), again, nil
}

// due takes out what was booked and whose slot has begun, and says when the next one does. It is called with mu held.
func (o *orders) due(now time.Time, free int) (list []*queue.Entry, next time.Time) {
	for id, b := range o.booked {
		may, at, why := !now.Before(b.at), b.at, b.why
		if b.first.IsZero() {
			may, at, why = o.m.schedule.May(id)
		}
		if may && len(list) < free {
			if delete(o.booked, id); !b.first.IsZero() {
				o.tried[id] = b.first
			}
			list = append(list, b.entry)
			continue
		}
		b.at, b.why = at, why
		o.booked[id] = b
		if at.IsZero() || may {
			continue // the schedule says when that changes, or a move that ends
		}
		if at = latest(at, now.Add(slotLook)); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return list, next
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ended takes an order out, and tells of those that fall with it. It is called with mu held.
func (o *orders) ended(id string, failed bool, now time.Time) {
	b, dropped := o.queue.Ended(id, failed, now, func(id string) bool {
		_, booked := o.booked[id]
		return booked || o.planning[id] != nil
	})
	for _, e := range dropped {
		o.remember(e, now, b.Stopped)
		o.forget(e.ID)
	}
	o.forget(id)
}

// forget drops what is known of an order beside the queue. It is called with mu held.
func (o *orders) forget(id string) {
	delete(o.plans, id)
	delete(o.booked, id)
	delete(o.planning, id)
	delete(o.tried, id)
	if o.m.schedule != nil {
		o.m.schedule.Ended(id)
	}
}

// keep writes the queue. It is called with mu held.
func (o *orders) keep(ctx context.Context) error {
	text, err := json.Marshal(o.queue)
	if err == nil {
		err = o.m.core.Put(ctx, stateQueue, text)
	}
	o.unkept = err != nil
	return err
}

// add takes a batch in; plans are those that were made for it.
func (o *orders) add(ctx context.Context, b *queue.Batch, plans ...plan.Plan) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.queue.Add(b); err != nil {
		return err
	}
	if err := o.keep(ctx); err != nil {
		o.queue.Batches = slices.DeleteFunc(o.queue.Batches, func(other *queue.Batch) bool { return other == b })
		return fmt.Errorf("keep the order: %w", err)
	}
	now := time.Now()
	for _, p := range plans {
		o.plans[p.ID] = made{p, now}
	}
	o.look()
	o.m.f.changed()
	return nil
}
