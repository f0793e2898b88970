package capacity

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/report"
	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/split"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// Client is a box as the reporter sees it; control.Client is one.
type Client interface {
	Exchange(ctx context.Context, kind uint8, payload []byte) ([]byte, error)
	HandleDatagram(kind uint8, h func(payload []byte))
	OnJoin(h func())
	Box() string
}

var _ Client = (*control.Client)(nil)

// Options of a Reporter.
type Options struct {
	Log     *slog.Logger
	Clients []*control.Client
	Config  Config
}

const (
	// maxWaiting bounds the reports to one box that wait for a reply.
	maxWaiting = 4
	// shortestGap keeps an application that talks without end from reporting without end.
	shortestGap = 5 * time.Millisecond
	// movesFor is how long reports go out at every measurement after something has moved.
	movesFor = time.Second
	// firstTTL paces reports until a box has said its own.
	firstTTL = 2 * time.Second
)

// Reporter measures components and reports them.
type Reporter struct {
	log         *slog.Logger
	began       time.Time
	interval    time.Duration
	incarnation uint64
	wake        chan struct{}
	components  []*component
	boxes       []*box
	all         sync.WaitGroup // of replies

	mu       sync.Mutex // over everything below, and the splitters
	sequence uint64
	moved    time.Duration // when a measurement or a reply last told something new
}

// component is one of the host's.
type component struct {
	name     string
	sources  []source
	most     uint32
	splitter *split.Splitter
	last     split.Measurement
	problem  string
}

// box is one of the balancers.
type box struct {
	client      Client
	incarnation uint64
	ttl         time.Duration
	sent        time.Duration
	waiting     chan struct{} // holds a token for each report that waits
}

// New opens the sources. Nothing is measured or sent before Run.
func New(o Options) (*Reporter, error) {
	clients := make([]Client, len(o.Clients))
	for i, c := range o.Clients {
		clients[i] = c
	}
	return newReporter(o.Log, clients, o.Config)
}

func newReporter(log *slog.Logger, clients []Client, c Config) (*Reporter, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	var seed [8]byte
	rand.Read(seed[:])
	r := &Reporter{
		log: log, began: time.Now(), interval: time.Duration(c.Interval),
		incarnation: binary.NativeEndian.Uint64(seed[:]) | 1, wake: make(chan struct{}, 1),
	}
	if r.interval == 0 {
		r.interval = defaultInterval
	}
	for _, cc := range c.Components {
		one, err := r.open(cc, len(clients))
		if err != nil {
			r.closeSources()
			return nil, fmt.Errorf("component %s: %w", cc.Name, err)
		}
		r.components = append(r.components, one)
	}
	for _, client := range clients {
		b := &box{client: client, ttl: firstTTL, waiting: make(chan struct{}, maxWaiting)}
		// A box asks for a report when credit runs low, and gets one when it is there again.
		client.HandleDatagram(control.KindCapacity, func([]byte) { r.poke() })
		client.OnJoin(r.poke)
		r.boxes = append(r.boxes, b)
	}
	return r, nil
}

func (r *Reporter) open(cc ComponentConfig, boxes int) (c *component, err error) {
	c = &component{
		name: cc.Name, most: cc.Max,
		splitter: split.New(split.Options{Balancers: boxes, Settle: time.Duration(cc.Handshake)}),
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if len(cc.Listen) > 0 {
		sockets := make([]netip.AddrPort, len(cc.Listen))
		for i, s := range cc.Listen {
			if sockets[i], err = parseListen(s); err != nil {
				return nil, err
			}
		}
		q, err := openListenQueue(sockets)
		if err != nil {
			return nil, err
		}
		c.sources = append(c.sources, q)
	}
	if cc.CGroup != nil {
		c.sources = append(c.sources, cgroup{*cc.CGroup})
	}
	if cc.Application != nil {
		a, err := listenApplication(*cc.Application, r.poke)
		if err != nil {
			return nil, err
		}
		c.sources = append(c.sources, a)
	}
	return c, nil
}

func (c *component) close() error {
	var failed []error
	for _, s := range c.sources {
		failed = append(failed, s.close())
	}
	return errors.Join(failed...)
}

func (r *Reporter) closeSources() {
	for _, c := range r.components {
		if err := c.close(); err != nil {
			r.log.Warn("capacity source was not closed", "component", c.name, "err", err)
		}
	}
}

// poke makes Run measure and report at once.
func (r *Reporter) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run measures and reports until ctx ends; then it closes the sources.
func (r *Reporter) Run(ctx context.Context) error {
	defer r.closeSources()
	defer r.all.Wait()
	tick := time.NewTicker(r.interval)
	defer tick.Stop()
	var last time.Duration
	for {
		asked := false
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.wake:
			asked = true
		}
		now := time.Since(r.began)
		if asked && now-last < shortestGap {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(shortestGap - (now - last)):
			}
			now = time.Since(r.began)
		}
		last = now
		r.measure(now, asked)
		r.send(ctx, now)
	}
}

// measure looks at every component.
func (r *Reporter) measure(now time.Duration, asked bool) {
	for _, c := range r.components {
		m, err := least(now, c.sources, c.most)
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if problem != c.problem && problem != "" {
			r.log.Warn("capacity is reported as none", "component", c.name, "err", err)
		}
		r.mu.Lock()
		if asked || m != c.last {
			r.moved = now
		}
		c.last, c.problem = m, problem
		c.splitter.Measure(now, m)
		r.mu.Unlock()
	}
}

// send reports to every box that is due.
func (r *Reporter) send(ctx context.Context, now time.Duration) {
	for i, b := range r.boxes {
		r.mu.Lock()
		due := r.moved != 0 && now-r.moved < movesFor || now-b.sent >= b.ttl/4
		ttl := b.ttl
		r.mu.Unlock()
		if !due {
			continue
		}
		select {
		case b.waiting <- struct{}{}:
		default:
			continue // its replies are late; the next measurement tries again
		}
		payloads := r.reports(now, i)
		r.all.Go(func() {
			defer func() { <-b.waiting }()
			// A reply later than this would not be worth much: the next report asks again.
			asking, cancel := context.WithTimeout(ctx, max(ttl/4, r.interval))
			defer cancel()
			for _, p := range payloads {
				answer, err := b.client.Exchange(asking, control.KindCapacity, p)
				if err != nil {
					return
				}
				r.replied(i, answer)
			}
		})
	}
}

// reports makes the datagrams for one box: as many components in each as fit.
func (r *Reporter) reports(now time.Duration, which int) (out [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.boxes[which]
	b.sent = now
	for rest := r.components; len(rest) > 0; {
		r.sequence++
		m := report.Report{Incarnation: r.incarnation, Sequence: r.sequence, Balancer: b.incarnation}
		room := report.Room(control.MaxPayload)
		for len(rest) > 0 && room >= report.EntrySize(rest[0].name) && len(m.Components) < report.MaxEntries {
			e := rest[0].splitter.Report(now, which, r.sequence)
			e.Name = rest[0].name
			room -= report.EntrySize(e.Name)
			m.Components = append(m.Components, e)
			rest = rest[1:]
		}
		p, err := m.Append(nil)
		if err != nil {
			r.log.Error("capacity report could not be made", "err", err)
			return nil
		}
		out = append(out, p)
	}
	return out
}

// replied takes a box's answer.
func (r *Reporter) replied(which int, answer []byte) {
	reply, err := report.ParseReply(answer)
	if err != nil {
		r.log.Warn("box answered a report with something else", "box", r.boxes[which].client.Box(), "err", err)
		return
	}
	now := time.Since(r.began)
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.boxes[which]
	again := false
	if b.incarnation != reply.Incarnation {
		// The box's counts began anew, for all components.
		if b.incarnation != 0 {
			for _, c := range r.components {
				c.splitter.Forget(which)
			}
		}
		b.incarnation, again = reply.Incarnation, true
	}
	if reply.TTL > 0 {
		b.ttl = reply.TTL
	}
	for _, d := range reply.Components {
		for _, c := range r.components {
			if c.name == d.Name {
				known := c.splitter.Known(which)
				if c.splitter.Reply(now, which, reply, d) {
					r.moved = now
				}
				again = again || known != c.splitter.Known(which)
			}
		}
	}
	if again {
		r.poke()
	}
}

// State is what is measured of a component now.
type State struct {
	Name     string
	Limit    uint32
	Accepted uint64
	Counted  bool
	Problem  string
}

// Components lists what was measured last.
func (r *Reporter) Components() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]State, len(r.components))
	for i, c := range r.components {
		out[i] = State{c.name, c.last.Limit, c.last.Accepted, c.last.Counted, c.problem}
	}
	return out
}
