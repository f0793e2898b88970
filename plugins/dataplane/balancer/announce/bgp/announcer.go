package bgp

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Port is BGP's.
const Port = 179

// Back-off between attempts at a session.
const firstRetry, lastRetry = 500 * time.Millisecond, 30 * time.Second

// Speaker is who we are and whom we speak to.
type Speaker struct {
	AS                    uint32
	RouterID              netip.Addr
	NextHop4, NextHop6    netip.Addr // the session's local address when not valid
	HoldTime, RestartTime time.Duration
	Neighbours            []Neighbour
}

// Neighbour is a router.
type Neighbour struct {
	Address netip.AddrPort
	AS      uint32
}

// Options of an Announcer.
type Options struct {
	Speaker Speaker
	Log     *slog.Logger
	// Restarted says that the forwarding state outlived an earlier process.
	Restarted bool
	// Dial opens connections; net's own when nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Changed is called when a session comes or goes; it must not block; may be nil.
	Changed func()
}

// Status of a session.
type Status struct {
	Neighbour   Neighbour
	Established bool
	Since       time.Time // of the present state
	Routes      int       // announced on this session
	Problem     string    // why the last session ended
}

// Announcer keeps the sessions.
type Announcer struct {
	o      Options
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	routes   map[netip.Addr]bool
	changed  chan struct{} // closed and replaced when routes change
	sessions []Status
}

// Start opens sessions, which announce nothing yet.
func Start(o Options) *Announcer {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := &Announcer{o: o, cancel: cancel, routes: map[netip.Addr]bool{}, changed: make(chan struct{})}
	for i, n := range o.Speaker.Neighbours {
		a.sessions = append(a.sessions, Status{Neighbour: n, Since: time.Now()})
		a.done.Go(func() { a.keep(ctx, i) })
	}
	return a
}

// Announce replaces the addresses that are announced.
func (a *Announcer) Announce(addresses []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.routes = make(map[netip.Addr]bool, len(addresses))
	for _, address := range addresses {
		a.routes[address] = true
	}
	close(a.changed)
	a.changed = make(chan struct{})
}

// Sessions lists the neighbours in the order of the configuration.
func (a *Announcer) Sessions() []Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Status(nil), a.sessions...)
}

// goodbye bounds Withdraw.
const goodbye = 2 * time.Second

// Withdraw takes all routes back and returns when the neighbours have been told, or are not there to be told.
func (a *Announcer) Withdraw() {
	a.Announce(nil)
	deadline := time.NewTimer(goodbye)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		told := true
		for _, s := range a.Sessions() {
			told = told && s.Routes == 0
		}
		if told {
			return
		}
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// Close ends the sessions without a word: neighbours keep the routes for the restart time.
func (a *Announcer) Close() {
	a.cancel()
	a.done.Wait()
}

// wanted is the present set of routes and a channel that is closed when it changes.
func (a *Announcer) wanted() (map[netip.Addr]bool, <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.routes, a.changed
}

// keep opens a session again whenever it has ended.
func (a *Announcer) keep(ctx context.Context, i int) {
	restarted := a.o.Restarted
	for delay := firstRetry; ; {
		s := session{announcer: a, index: i, neighbour: a.o.Speaker.Neighbours[i], restarting: restarted}
		err := s.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if s.established {
			delay, restarted = firstRetry, true
		}
		a.o.Log.Info("BGP session is down", "neighbour", s.neighbour.Address, "err", err)
		a.note(i, func(st *Status) {
			if st.Established || st.Problem == "" {
				st.Since = time.Now()
			}
			st.Established, st.Routes, st.Problem = false, 0, err.Error()
		})
		// Half to all of the delay, so that boxes that lost the same router do not return in step.
		timer := time.NewTimer(delay/2 + rand.N(delay/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		delay = min(2*delay, lastRetry)
	}
}

func (a *Announcer) note(i int, f func(*Status)) {
	a.mu.Lock()
	f(&a.sessions[i])
	a.mu.Unlock()
	a.o.Changed()
}
