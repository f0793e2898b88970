package health

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// maxAtOnce bounds the checks that run at the same time. Those of dead machines take their whole timeout, and the others wait.
const maxAtOnce = 512

// Options of a Monitor.
type Options struct {
	// Dial opens connections; net's own when nil.
	Dial Dial
	// Changed is called when a target's state changes, from the goroutine that checked it; it must not block.
	Changed func(Target, State)
}

// State of a target.
type State struct {
	Known, Up bool
	// Why is the last failure, "" after a success.
	Why string
}

// Monitor checks a set of targets.
type Monitor struct {
	o     Options
	slots chan struct{}

	mu      sync.Mutex
	targets map[Target]*target
	all     sync.WaitGroup
}

type target struct {
	streak Streak
	why    string
	cancel context.CancelFunc
}

// NewMonitor makes a monitor without targets, which costs nothing.
func NewMonitor(o Options) *Monitor {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Changed == nil {
		o.Changed = func(Target, State) {}
	}
	return &Monitor{o: o, slots: make(chan struct{}, maxAtOnce), targets: map[Target]*target{}}
}

// Set replaces the targets. Those that stay keep their state.
func (m *Monitor) Set(targets []Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	wanted := make(map[Target]bool, len(targets))
	for _, t := range targets {
		wanted[t] = true
		if m.targets[t] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(context.Background())
		m.targets[t] = &target{cancel: cancel}
		m.all.Go(func() { m.watch(ctx, t) })
	}
	for t, state := range m.targets {
		if !wanted[t] {
			state.cancel()
			delete(m.targets, t)
		}
	}
}

// State is what is known of a target.
func (m *Monitor) State(t Target) State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.targets[t]; s != nil {
		return State{s.streak.Known, s.streak.Up, s.why}
	}
	return State{}
}

// Close ends all checks and waits for them.
func (m *Monitor) Close() {
	m.Set(nil)
	m.all.Wait()
}

// watch checks one target until ctx ends.
func (m *Monitor) watch(ctx context.Context, t Target) {
	// The first checks of many targets are spread over a tenth of the interval, later ones over a tenth more or less.
	pause := rand.N(t.Check.Interval/10 + 1)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case m.slots <- struct{}{}:
		}
		err := m.once(ctx, t)
		<-m.slots
		if ctx.Err() != nil {
			return
		}
		m.note(t, err)
		timer.Reset(t.Check.Interval*9/10 + rand.N(t.Check.Interval/5+1))
	}
}

func (m *Monitor) once(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, t.Check.Timeout)
	defer cancel()
	return probe(ctx, m.o.Dial, t)
}

func (m *Monitor) note(t Target, err error) {
	m.mu.Lock()
	s := m.targets[t]
	if s == nil {
		m.mu.Unlock()
		return
	}
	s.why = ""
	if err != nil {
		s.why = err.Error()
	}
	changed := s.streak.Result(err == nil, t.Check.Rise, t.Check.Fall)
	state := State{s.streak.Known, s.streak.Up, s.why}
	m.mu.Unlock()
	if changed {
		m.o.Changed(t, state)
	}
}
