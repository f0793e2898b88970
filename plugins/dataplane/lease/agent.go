package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// Client is a host's end of the channel to one leasing agent; control.Client is one.
type Client interface {
	HandleDatagram(kind uint8, h func(payload []byte))
	OnJoin(h func())
	Exchange(ctx context.Context, kind uint8, payload []byte) ([]byte, error)
	Box() string
}

var _ Client = (*control.Client)(nil)

// AgentOptions is what an Agent is made with.
type AgentOptions struct {
	Log     *slog.Logger
	Clients []*control.Client // one a box; each box is a leasing agent
	Host    string            // the name under which this host is enrolled
	Pins    string            // directory of this agent alone on a bpffs; "": nothing outlives the process
	Config  AgentConfig
	// Dial is net's own when nil; tests give one that works in a namespace.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Agent is a host's side of leasing: it keeps the leases of the services that the host consumes, and offers the
// producers that are on it.
type Agent struct {
	o       AgentOptions
	clients []Client
	agents  []uint32 // agentID of each
	events  chan event
	ended   chan struct{} // Run is over
}

// event is something from outside the loop.
type event struct {
	agent  int
	answer any        // engine.Grant, Ack or Nudge; nil: the agent's connection stands again
	probed *producing // a probe's result instead
	alive  bool
	show   chan<- HostStatus // or a question
}

const (
	// exchangePatience is how long an answer is waited for; later ones are of requests that were repeated since.
	exchangePatience = 2 * time.Second
	// look is how often the ways to hosts, and the links of instances, are looked up anew.
	look = 2 * time.Second
)

// NewAgent makes the agent; it does nothing until Run.
func NewAgent(o AgentOptions) *Agent {
	a := newAgent(o)
	for _, c := range o.Clients {
		a.add(c)
	}
	return a
}

func newAgent(o AgentOptions) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Config.DrainIdle == 0 {
		o.Config.DrainIdle = plugin.Duration(defaultDrainIdle)
	}
	return &Agent{o: o, events: make(chan event, 64), ended: make(chan struct{})}
}

func (a *Agent) add(c Client) {
	n := len(a.clients)
	a.clients, a.agents = append(a.clients, c), append(a.agents, agentID(c.Box()))
	// Neither must block: what the loop has no time for, its own retries make up.
	c.HandleDatagram(control.KindLease, func(payload []byte) {
		if m, err := engine.Decode(payload); err == nil {
			a.post(event{agent: n, answer: m})
		}
	})
	c.OnJoin(func() { a.post(event{agent: n}) })
}

func (a *Agent) post(e event) {
	select {
	case a.events <- e:
	default:
	}
}

// Run works until ctx ends. Program, routes and leases stay: what has been leased may be used until it runs out, and a
// new process goes on with it. Everything that concerns the network namespace is done by the calling goroutine.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.ended)
	device, err := overlay.Ensure(overlay.Options{MTU: a.o.Config.MTU})
	if err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	l := &loop{Agent: a, ctx: ctx, device: device, run: newRun(), jitter: rand.Float64, paths: paths{}}
	defer l.close()
	if err := l.openConsumers(); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	if err := l.openProducers(); err != nil {
		return fmt.Errorf("leases: %w", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case e := <-a.events:
			l.take(e)
		}
		timer.Reset(l.step() - bootNow())
	}
}

// bootNow is the clock that leases run by: it goes on while the machine sleeps, and nobody sets it.
func bootNow() time.Duration { return time.Duration(bpf.BootNow()) }

// loop is what Run's goroutine owns.
type loop struct {
	*Agent
	ctx      context.Context
	device   *overlay.Device
	run      uint64
	jitter   func() float64
	data     *datapath // nil if nothing is consumed
	gate     *overlay.Gate
	consumed []*consuming
	produced []*producing
	looked   time.Duration
	paths    paths
}

func (l *loop) close() {
	if l.data != nil {
		l.data.close()
	}
	if l.gate != nil {
		_ = l.gate.Close()
	}
}

// take carries an event to whom it concerns.
func (l *loop) take(e event) {
	now := bootNow()
	switch m := e.answer.(type) {
	case engine.Grant:
		for _, c := range l.consumed {
			if c.name == m.Service {
				c.granted(now, e.agent, m)
			}
		}
	case engine.Nudge:
		for _, c := range l.consumed {
			if c.name == m.Service {
				c.set.Nudge(now, e.agent)
			}
		}
	case engine.Ack:
		for _, p := range l.produced {
			if p.config.Service == m.Service && p.config.Name == m.Producer {
				p.shares.Acked(now, e.agent, m)
			}
		}
	case nil:
		switch {
		case e.show != nil:
			e.show <- l.status(now)
		case e.probed != nil:
			e.probed.probed(e.alive)
		default:
			for _, c := range l.consumed {
				c.set.Nudge(now, e.agent)
			}
			for _, p := range l.produced {
				p.shares.Rejoined(e.agent)
			}
		}
	}
}

// step does what is due and says until when there is nothing more.
func (l *loop) step() (next time.Duration) {
	now := bootNow()
	next = now + look
	if now >= l.looked+look {
		l.looked = now
		l.lookAgain()
	}
	for _, c := range l.consumed {
		next = min(next, c.step(l, now))
	}
	for _, p := range l.produced {
		next = min(next, p.step(l, now))
	}
	return next
}

// send sends a message and posts the answer, if one comes in time.
func (l *loop) send(agent int, message any) {
	b, err := engine.Encode(message)
	if err != nil {
		l.o.Log.Error("cannot encode a lease message", "error", err)
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(l.ctx, exchangePatience)
		defer cancel()
		answer, err := l.clients[agent].Exchange(ctx, control.KindLease, b)
		if err != nil {
			return // lost, or not joined: the engine asks again
		}
		if m, err := engine.Decode(answer); err == nil {
			select {
			case l.events <- event{agent: agent, answer: m}:
			case <-ctx.Done():
			}
		}
	}()
}

// errEnded is what Status says of an agent that does not run any more.
var errEnded = errors.New("the agent has ended")

// Status asks the running agent what it holds.
func (a *Agent) Status(ctx context.Context) (HostStatus, error) {
	reply := make(chan HostStatus, 1)
	select {
	case a.events <- event{show: reply}:
	case <-a.ended:
		return HostStatus{}, errEnded
	case <-ctx.Done():
		return HostStatus{}, ctx.Err()
	}
	select {
	case s := <-reply:
		return s, nil
	case <-a.ended:
		return HostStatus{}, errEnded
	case <-ctx.Done():
		return HostStatus{}, ctx.Err()
	}
}
