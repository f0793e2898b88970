package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/supervise"
)

// inboxSize is how many things that happened may wait for a unit's goroutine.
const inboxSize = 32

// unit is one plugin. Its goroutine owns the Machine and the attempts; what others may look
// at is in view, under mu.
type unit struct {
	host    *Host
	name    string
	program Program
	uid     int
	log     *slog.Logger
	ring    *ring
	handles handleSet
	luggage luggage
	calls   chan struct{} // a token for each call to another plugin under way

	inbox chan func(now time.Time)
	quit  chan struct{} // closed by Shutdown
	done  chan struct{} // closed when the goroutine has ended

	// Owned by the goroutine.
	machine *supervise.Machine
	active  *attempt
	spare   *attempt
	idle    bool // stopped or isolated, and no process is left: nothing is held

	mu      sync.Mutex
	config  config
	ids     map[string]string // claimed things by the name of their Want
	netns   *os.File
	epoch   epoch
	view    view
	changed chan struct{} // closed and replaced when view changes
}

// config is what a unit is to run with.
type config struct {
	section    Section
	generation uint64
	gate       *gate // nil: nothing to wait for before Start
}

// view is the unit as others see it.
type view struct {
	state    supervise.State
	message  string
	since    time.Time
	restarts int
	process  *process // nil unless it serves
	refused  bool     // there will be no next try of itself
	spare    bool
	event    *pluginpb.Event // latest of the process that serves
}

func newUnit(h *Host, p Program, uid int) *unit {
	name := p.Descriptor.GetName()
	policy := h.policy
	policy.Spare = p.Descriptor.GetWarmSpare() && !h.opts.NoSpare
	u := &unit{
		host: h, name: name, program: p, uid: uid,
		log:     h.log.With("plugin", name),
		ring:    &ring{plugin: name, tee: h.opts.LogTee},
		calls:   make(chan struct{}, maxCalls),
		inbox:   make(chan func(time.Time), inboxSize),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
		machine: supervise.New(policy, time.Now()),
		ids:     make(map[string]string),
		changed: make(chan struct{}),
	}
	u.view.since = u.machine.Since()
	return u
}

// run feeds the Machine until Shutdown.
func (u *unit) run() {
	defer close(u.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if d := u.machine.Deadline(); !d.IsZero() {
			wait = max(0, time.Until(d))
		}
		timer.Reset(wait)
		select {
		case f := <-u.inbox:
			f(time.Now())
		case <-timer.C:
			u.step(time.Now(), supervise.Input{Kind: supervise.Tick})
		case <-u.quit:
			for _, a := range []*attempt{u.active, u.spare} {
				if a != nil {
					a.cancel()
				}
			}
			return
		}
	}
}

// post hands f to the goroutine. It says false when the unit has been shut down.
func (u *unit) post(f func(now time.Time)) bool {
	select {
	case u.inbox <- f:
		return true
	case <-u.done:
		return false
	}
}

// ask has the goroutine answer a question about what only it may read; false once it has ended.
func (u *unit) ask(question func() bool) bool {
	answer := make(chan bool, 1)
	if !u.post(func(time.Time) { answer <- question() }) {
		return false
	}
	select {
	case is := <-answer:
		return is
	case <-u.done:
		return false
	}
}

// input posts one input.
func (u *unit) input(k supervise.Kind, why string) bool {
	return u.post(func(now time.Time) { u.step(now, supervise.Input{Kind: k, Why: why}) })
}

// step feeds the Machine and carries out what it says. Only the goroutine calls it.
func (u *unit) step(now time.Time, in supervise.Input) {
	for _, act := range u.machine.Step(now, in) {
		switch act {
		case supervise.Spawn:
			u.active = u.newAttempt(false)
			go u.active.run()
		case supervise.SpawnSpare:
			u.spare = u.newAttempt(true)
			go u.spare.run()
		case supervise.Promote:
			u.active, u.spare = u.spare, nil
			close(u.active.promote)
		case supervise.Stop:
			u.active.handOver = u.machine.Wanted()
			close(u.active.stop)
		case supervise.Kill:
			u.active.cancel()
		case supervise.KillSpare:
			u.spare.cancel()
		}
	}
	// Whoever sees that it is stopped may give away what it held.
	s := u.machine.State()
	was := u.idle
	u.idle = u.active == nil && (s == supervise.Stopped || s == supervise.Isolated)
	if u.idle && !was {
		u.releaseAll()
	}
	if s == supervise.Failed {
		u.luggage.drop() // nobody is on the way to take it over
	}
	u.publish()
}

// ended notes that an attempt is over and its process gone.
func (u *unit) ended(now time.Time, a *attempt, err error) {
	why := "exited"
	switch {
	case errors.Is(err, context.Canceled):
		why = "killed"
	case err != nil:
		why = err.Error()
	}
	switch a {
	case u.active:
		if refused := (*refusedError)(nil); errors.As(err, &refused) {
			u.step(now, supervise.Input{Kind: supervise.Refuse, Why: why})
		}
		u.active = nil
		// The next process first, the paperwork after it.
		u.step(now, supervise.Input{Kind: supervise.Exited, Why: why})
		level := slog.LevelWarn
		if err == nil { // it was told to
			level = slog.LevelInfo
		}
		u.log.Log(context.Background(), level, "process ended", "why", why, "state", u.machine.State().String(), "restarts", u.machine.Restarts())
	case u.spare:
		u.spare = nil
		u.step(now, supervise.Input{Kind: supervise.SpareDown, Why: why})
		if !errors.Is(err, context.Canceled) {
			u.log.Warn("spare ended", "why", why)
		}
	}
}

// releaseAll gives everything back that the plugin held.
func (u *unit) releaseAll() {
	u.luggage.drop()
	if err := u.handles.clear(false); err != nil {
		u.log.Error("release handles", "err", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	clear(u.ids)
	if u.netns != nil {
		u.netns.Close()
		u.netns = nil
	}
}

// publish shows the Machine's state to others.
func (u *unit) publish() {
	m := u.machine
	v := view{
		state: m.State(), message: m.Message(), since: m.Since(), restarts: m.Restarts(),
		spare: u.spare != nil && u.spare.standing, refused: m.Refused(),
	}
	if m.State().Serving() && u.active != nil {
		v.process = u.active.served
	}
	u.mu.Lock()
	if v.process != nil && v.process == u.view.process {
		v.event = u.view.event
	}
	was := u.view
	u.view = v
	close(u.changed)
	u.changed = make(chan struct{})
	u.mu.Unlock()
	if was.state != v.state {
		u.log.Info("state", "from", was.state.String(), "to", v.state.String(), "message", v.message)
		u.host.events.send(Event{Plugin: u.name, State: v.state.String(), Message: v.message, Time: v.since})
	}
}

// look returns the view and a channel that is closed when it changes.
func (u *unit) look() (view, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.view, u.changed
}

// isActive says whether p is the process that serves or is about to.
func (u *unit) isActive(p *process) bool {
	return u.ask(func() bool { return u.active != nil && u.active.current() == p })
}

// changedFrom waits until a process does not serve any more.
func (u *unit) changedFrom(ctx context.Context, p *process) (view, error) {
	for {
		v, changed := u.look()
		if v.process != p {
			return v, nil
		}
		select {
		case <-changed:
		case <-u.done:
			return v, errShutdown
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// settled waits until the plugin serves, or will not without being asked again.
func (u *unit) settled(ctx context.Context, is func(view) bool) (view, error) {
	for {
		v, changed := u.look()
		if is(v) {
			return v, nil
		}
		select {
		case <-changed:
		case <-u.done:
			return v, errShutdown
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

// namespace returns the plugin's network namespace and makes it the first time. Core holds
// it, so links stay in it while the plugin restarts.
func (u *unit) namespace() (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.netns == nil {
		ns, err := newNetNS()
		if err != nil {
			return nil, err
		}
		u.netns = ns
	}
	return u.netns, nil
}

func (u *unit) unclaim(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ids, name)
}

// currentConfig returns the configuration to run with.
func (u *unit) currentConfig() config {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.config
}
