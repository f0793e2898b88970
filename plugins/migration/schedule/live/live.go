package live

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model/load"
	"github.com/ratchetos/ratchet/plugins/migration/schedule"
	"github.com/ratchetos/ratchet/plugins/migration/schedule/budget"
)

// State is where histories are kept: a part of plugin.Host.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
}

// Options of a Live. Config and State are needed.
type Options struct {
	Config schedule.Config
	State  State
	// Changed is told when a slot has changed or begun, or a link is no longer read. It must not block.
	Changed func()
	// Measured is told when a load was read. It must not block.
	Measured func()
	// Limit holds a move that is under way to so many bytes a second.
	Limit func(id string, bytesPerSecond uint64) error
	// Sent is how many bytes a move has sent, false when it does not send now.
	Sent func(id string) (uint64, bool)
	// Load asks the agent of a host what it has to do; nil if there are none.
	Load func(ctx context.Context, host string) (load.Host, error)
	Now  func() time.Time // nil is time.Now
	HTTP *http.Client
	Log  *slog.Logger
}

const (
	// steerEvery is the time between two looks at what moves have sent.
	steerEvery = 200 * time.Millisecond
	// planEvery is how often slots are decided anew if nothing else has happened.
	planEvery = time.Minute
	// soon is how long several changes are taken together.
	soon = 50 * time.Millisecond
)

// Live is a schedule that runs.
type Live struct {
	o      Options
	wake   chan struct{}
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu      sync.Mutex
	engine  *schedule.Engine
	links   []*link
	rooms   []*room
	control budget.Controller
	told    []told
	began   time.Time // of control's time
	planned bool      // since the last change
	refused bool      // a move has no slot: what is measured may change that
}

// New reads the kept histories and begins to watch.
func New(ctx context.Context, o Options) (*Live, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Measured == nil {
		o.Measured = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	engine, err := schedule.NewEngine(o.Config.Windows)
	if err != nil {
		return nil, err
	}
	l := &Live{o: o, engine: engine, wake: make(chan struct{}, 1), began: o.Now()}
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.wait.Go(func() { l.run(run) })
	for _, k := range l.links {
		if k.look != nil {
			l.wait.Go(func() { l.follow(run, &k.resource, k.sample) })
		}
	}
	for _, m := range l.rooms {
		if m.look != nil {
			l.wait.Go(func() { l.follow(run, &m.resource, m.sample) })
		}
	}
	return l, nil
}

// open reads the histories of everything that is watched.
func (l *Live) open(ctx context.Context) error {
	for _, conf := range l.o.Config.Links {
		k, err := newLink(ctx, conf, l.o)
		if err != nil {
			return fmt.Errorf("link %s: %w", conf.Name, err)
		}
		l.links = append(l.links, k)
	}
	for _, conf := range l.o.Config.Hosts {
		k, err := newCPU(ctx, conf, l.o)
		if err != nil {
			return fmt.Errorf("processors of %s: %w", conf.Name, err)
		}
		m, err := newRoom(ctx, conf, l.o)
		if err != nil {
			return fmt.Errorf("memory of %s: %w", conf.Name, err)
		}
		l.links, l.rooms = append(l.links, k), append(l.rooms, m)
	}
	return nil
}

// resources are all that is watched, in the order of the configuration.
func (l *Live) resources() (list []*resource) {
	for _, k := range l.links {
		list = append(list, &k.resource)
	}
	for _, m := range l.rooms {
		list = append(list, &m.resource)
	}
	return list
}

// Close ends watching and keeps the histories. Moves under way keep their limits.
func (l *Live) Close(ctx context.Context) error {
	l.cancel()
	l.wait.Wait()
	var errs []error
	for _, r := range l.resources() {
		errs = append(errs, r.keep(ctx, l.o.State))
	}
	return errors.Join(errs...)
}

// Submit takes a move in and gives it a slot.
func (l *Live) Submit(j schedule.Job) (schedule.Decision, error) {
	l.mu.Lock()
	now := l.o.Now()
	if err := l.engine.Submit(j, now); err != nil {
		l.mu.Unlock()
		return schedule.Decision{}, err
	}
	l.plan(now)
	d, _ := l.engine.Decision(j.ID)
	l.mu.Unlock()
	l.touch()
	return d, nil
}

// Decision on a move; false when it was not submitted or has ended. A move may begin when it is booked and its start is not after now.
func (l *Live) Decision(id string) (schedule.Decision, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.engine.Decision(id)
}

// May says whether a move may begin now, and if not, from when and why.
func (l *Live) May(id string) (now bool, at time.Time, why string) {
	l.mu.Lock()
	moment := l.o.Now()
	d, ok := l.engine.Decision(id)
	if ok && d.State == schedule.Booked && !d.Start.After(moment) {
		// What it was to follow may be late.
		l.plan(moment)
		d, ok = l.engine.Decision(id)
	}
	l.mu.Unlock()
	switch {
	case !ok, d.State == schedule.Running:
		return true, time.Time{}, ""
	case d.State == schedule.Denied:
		return false, time.Time{}, first(d.Why)
	}
	return !d.Start.After(moment), d.Start, first(d.Why)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// Began notes that a move is under way: from now on it has its part of the budgets.
func (l *Live) Began(id string) {
	l.mu.Lock()
	l.engine.Begin(id, l.o.Now())
	l.mu.Unlock()
	l.touch()
}

// Ended forgets a move that has ended, was cancelled or could not begin.
func (l *Live) Ended(id string) {
	l.mu.Lock()
	if d, ok := l.engine.Decision(id); ok && d.State == schedule.Running {
		for _, m := range l.rooms {
			if m.host == d.To {
				d.End = l.o.Now()
				m.arrived += d.Unseen(m.loadAt) // until the next look at it
			}
		}
	}
	l.engine.Remove(id)
	l.planned = false
	l.mu.Unlock()
	l.touch()
}

// Explain is why a move has its slot.
func (l *Live) Explain(id string) ([]string, error) {
	d, ok := l.Decision(id)
	if !ok {
		return nil, fmt.Errorf("no move %q is waiting or under way; `ratchetctl migrate schedule show` lists them", id)
	}
	return d.Why, nil
}

// touch asks the loop for another look.
func (l *Live) touch() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run plans, tells when slots begin, and steers.
func (l *Live) run(ctx context.Context) {
	timer := time.NewTimer(planEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		timer.Reset(l.turn())
	}
}

// turn does what is to be done now and returns when to look again.
func (l *Live) turn() time.Duration {
	l.mu.Lock()
	now := l.o.Now()
	if !l.planned {
		l.plan(now) // of the same moment as what follows: a slot that begins at it is due
	}
	due := len(l.engine.Due(now)) > 0
	next := planEvery
	if at := l.engine.Next(); !at.IsZero() && at.After(now) {
		next = max(soon, min(next, at.Sub(now)))
	}
	limits, transfers := l.steer(now)
	l.planned = false // the next turn plans with what is known then
	l.mu.Unlock()

	l.tell(limits, now)
	if due {
		l.o.Changed()
	}
	if transfers > 0 {
		next = min(next, steerEvery)
	}
	return next
}

// plan decides on all slots. It is called with mu held.
func (l *Live) plan(now time.Time) {
	var lanes []schedule.Lane
	for _, k := range l.links {
		if k.whole > 0 { // otherwise nobody has said yet how many processors the host has
			lanes = append(lanes, k.lane(now))
		}
	}
	var rooms []schedule.Room
	for _, m := range l.rooms {
		if r, ok := m.outlook(now); ok {
			rooms = append(rooms, r)
		}
	}
	l.progress(now)
	l.refused = false
	for _, d := range l.engine.Plan(now, lanes, rooms) {
		l.refused = l.refused || d.State == schedule.Denied
	}
	l.planned = true
}

// progress estimates when moves under way end: what follows them must not begin before. It is called with mu held.
func (l *Live) progress(now time.Time) {
	if l.o.Sent == nil {
		return
	}
	for _, d := range l.engine.Decisions() {
		if d.State != schedule.Running {
			continue
		}
		sent, ok := l.o.Sent(d.ID)
		rate := l.control.Limit(d.ID)
		if !ok || rate <= 0 || sent >= d.Verdict.Bytes {
			continue // not known, or late: the engine has a rule for that
		}
		l.engine.Progress(d.ID, now.Add(time.Duration(float64(d.Verdict.Bytes-sent)/rate*float64(time.Second))))
	}
}

// steer divides the budgets among moves under way. It is called with mu held.
func (l *Live) steer(now time.Time) ([]budget.Limit, int) {
	if l.o.Limit == nil || l.o.Sent == nil {
		return nil, 0
	}
	l.settled(now)
	var transfers []budget.Transfer
	for _, d := range l.engine.Decisions() {
		if d.State != schedule.Running || len(d.Links) == 0 {
			continue
		}
		sent, ok := l.o.Sent(d.ID)
		if !ok {
			continue
		}
		transfers = append(transfers, budget.Transfer{ID: d.ID, Links: d.Links, Priority: d.Priority, Most: d.Rate, Sent: sent})
	}
	links := make([]budget.Link, 0, len(l.links))
	for _, k := range l.links {
		for _, t := range transfers {
			k.count(t)
		}
		links = append(links, budget.Link{Name: k.name, Rate: k.free()})
	}
	return l.control.Step(now.Sub(l.began), links, transfers), len(transfers)
}
