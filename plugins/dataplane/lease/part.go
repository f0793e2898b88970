package lease

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
)

// Control is the box's end of the channel to its hosts; control.Server is one.
type Control interface {
	HandleDatagram(kind uint8, h func(host string, seq uint64, payload []byte) (reply []byte))
	Send(host string, kind uint8, payload []byte) error
}

var _ Control = (*control.Server)(nil)

// Options is what a Part is made with.
type Options struct {
	Log     *slog.Logger
	State   State
	Control Control // nil: there are no hosts, and nobody to lease to
	Changed func()  // what is shown has changed; may be nil
}

// Part is a leasing agent: the box's side. All methods may be called from any goroutine.
type Part struct {
	o Options

	mu      sync.Mutex
	book    *engine.Book // nil while stopped
	nudges  map[nudge]bool
	problem error // the store does not take what must be durable

	wake chan struct{} // there are nudges, or claims to make durable
	stop context.CancelFunc
	done chan struct{}
}

// nudge is a message that is still to be sent.
type nudge struct{ host, service string }

const (
	// maxNudges bounds what waits to be sent. Whoever is left out asks at a third of the TTL anyway.
	maxNudges = 1 << 16
	// tickEvery is how often what has run out is forgotten; it also runs out when it is asked about.
	tickEvery = time.Second
)

// New makes the part. It costs nothing until Start.
func New(o Options) *Part {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	p := &Part{o: o}
	if o.Control != nil {
		o.Control.HandleDatagram(control.KindLease, p.answer)
	}
	return p
}

// errStopped is what calls get while leasing is not configured.
var errStopped = errors.New("leases are not configured: add leases to plugins.dataplane")

// Start reads what earlier runs left and begins to answer. If there was one, nothing new is leased until all that it
// had leased has run out; what hosts hold is renewed.
func (p *Part) Start(ctx context.Context, d Desired) error {
	m, err := remember(ctx, p.o.State, d)
	if err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	o := engine.BookOptions{Run: newRun(), Key: m.key, Epochs: m.epochs}
	if !m.fresh {
		o.Recovering = bootNow() + m.longest
	}
	book := engine.NewBook(o)
	book.Configure(d.Services)
	working, stop := context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.book, p.nudges, p.problem = book, map[nudge]bool{}, nil
	p.wake, p.stop, p.done = make(chan struct{}, 1), stop, make(chan struct{})
	go p.work(working, book, p.wake, p.done)
	return nil
}

// Apply takes over a new configuration; leases of what stays stay.
func (p *Part) Apply(ctx context.Context, d Desired) error {
	if err := keepLongest(ctx, p.o.State, d); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book != nil {
		p.book.Configure(d.Services)
	}
	return nil
}

// Stop ends the answers. What is leased may be used until it runs out, and a new run renews it.
func (p *Part) Stop(ctx context.Context) error {
	p.mu.Lock()
	stop, done := p.stop, p.done
	p.book, p.stop = nil, nil
	p.mu.Unlock()
	if stop == nil {
		return nil
	}
	stop()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop leases: %w", ctx.Err())
	}
}

// answer takes a host's datagram. It is called by the channel's reader, and only computes.
func (p *Part) answer(host string, _ uint64, payload []byte) []byte {
	m, err := engine.Decode(payload)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.book == nil {
		return nil
	}
	var reply any
	switch m := m.(type) {
	case engine.Want:
		g, ok := p.book.Want(bootNow(), host, m)
		if !ok {
			return nil
		}
		reply = g
	case engine.Hold:
		a, lost, ok := p.book.Hold(bootNow(), host, m)
		p.tell(m.Service, lost)
		if !ok {
			return nil
		}
		if a.Status == engine.Wait {
			p.rouse()
		}
		reply = a
	default:
		return nil
	}
	b, err := engine.Encode(reply)
	if err != nil {
		p.o.Log.Error("cannot encode an answer", "host", host, "error", err)
		return nil
	}
	return b
}

// tell notes whom to nudge; mu is held.
func (p *Part) tell(service string, hosts []string) {
	for _, h := range hosts {
		if len(p.nudges) < maxNudges {
			p.nudges[nudge{h, service}] = true
		}
	}
	if len(hosts) > 0 {
		p.rouse()
		p.o.Changed()
	}
}

func (p *Part) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// work sends nudges, makes claims durable and forgets what is over, until ctx ends.
func (p *Part) work(ctx context.Context, book *engine.Book, wake <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.mu.Lock()
			for service, hosts := range book.Tick(bootNow()) {
				p.tell(service, hosts)
			}
			p.mu.Unlock()
		case <-wake:
		}
		p.sendNudges()
		p.save(ctx, book)
	}
}

func (p *Part) sendNudges() {
	p.mu.Lock()
	nudges := p.nudges
	if len(nudges) > 0 {
		p.nudges = map[nudge]bool{}
	}
	p.mu.Unlock()
	for n := range nudges {
		if b, err := engine.Encode(engine.Nudge{Service: n.service}); err == nil {
			_ = p.o.Control.Send(n.host, control.KindLease, b) // a host that is away asks when it is back
		}
	}
}

// save makes claims durable. Only then do their hosts get an answer; if it fails they go on asking.
func (p *Part) save(ctx context.Context, book *engine.Book) {
	p.mu.Lock()
	unsaved := book.Unsaved()
	p.mu.Unlock()
	var failed error
	for key, c := range unsaved {
		if err := saveClaim(ctx, p.o.State, key, c); err != nil {
			failed = err
			continue
		}
		p.mu.Lock()
		book.Saved(key, c)
		p.mu.Unlock()
	}
	p.mu.Lock()
	changed := (failed == nil) != (p.problem == nil)
	p.problem = failed
	p.mu.Unlock()
	if changed || len(unsaved) > 0 {
		p.o.Changed()
	}
}

// newRun draws the number of a process.
func newRun() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails
	return binary.BigEndian.Uint64(b[:])
}
