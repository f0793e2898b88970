package balancer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// State is the box's own store, below this part's prefix.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Control is the box's end of the channel to its hosts and peers; control.Server is one.
type Control interface {
	HandleCall(method string, h func(ctx context.Context, host string, request []byte) ([]byte, error))
	HandleDatagram(kind uint8, h func(host string, seq uint64, payload []byte) (reply []byte))
	Send(host string, kind uint8, payload []byte) error
	OnHost(f func(host string, joined bool))
	Hosts() []control.HostStatus
}

var _ Control = (*control.Server)(nil)

// Options is what a Part is made with.
type Options struct {
	Log     *slog.Logger
	Pins    string // directory on a bpffs; nothing is pinned when empty
	State   State
	Control Control // nil: no agents, no peers
	Link    func(name string) (ifindex int, mtu int, ok bool)
	Changed func()
	// Dial opens connections of health checks, BGP and peers; net's own when nil. In opens sockets bound to a link.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	In   func(func())
	// ListenPacket opens the sockets towards peers; net's own when nil.
	ListenPacket func(network string) (net.PacketConn, error)
}

// Part is the balancer of one box. All methods may be called from any goroutine.
type Part struct {
	o     Options
	began time.Time

	configuring sync.Mutex // held over Start, Apply and Stop

	mu    sync.Mutex
	run   *run   // nil while stopped
	offer *offer // while starting: what peers that start as well are told
}

// errStopped is what calls get while the balancer is not configured.
var errStopped = errors.New("the balancer is not configured: add balancer to plugins.dataplane")

// New makes the part. It costs nothing until Start.
func New(o Options) *Part {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.In == nil {
		o.In = func(f func()) { f() }
	}
	p := &Part{o: o, began: time.Now()}
	if c := o.Control; c != nil {
		c.HandleDatagram(control.KindCapacity, p.reported)
		c.HandleDatagram(kindPeer, p.peerSpoke)
		c.HandleDatagram(kindFlows, p.peerFlows)
		c.HandleCall(methodKey, p.peerKey)
		c.HandleCall(methodPage, p.peerPage)
		c.OnHost(func(string, bool) { p.poke() })
	}
	return p
}

// now is the time of all engines.
func (p *Part) now() time.Duration { return time.Since(p.began) }

// running is the present run, nil while stopped.
func (p *Part) running() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

// poke makes the worker look at hosts' addresses again.
func (p *Part) poke() {
	if r := p.running(); r != nil {
		r.wakeUp()
	}
}

// Start opens the table, or takes over the one that an earlier process left, brings the configuration into force and
// attaches the program last, when it knows what to do.
func (p *Part) Start(ctx context.Context, d Desired) error {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	if p.running() != nil {
		return errors.New("balancer: is started already")
	}
	t, err := p.open(ctx, d)
	if err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	r := &run{
		part: p, o: p.o, table: t, backends: map[backendKey]*backend{}, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1),
		requests: make(chan request), stop: make(chan struct{}), overrides: map[override]uint32{},
	}
	r.monitor = health.NewMonitor(health.Options{Dial: health.Dial(p.o.Dial), Changed: func(health.Target, health.State) { r.wakeUp() }})
	if err := r.begin(ctx, d); err != nil {
		r.monitor.Close()
		return errors.Join(err, t.Close())
	}
	p.mu.Lock()
	p.run = r
	p.mu.Unlock()
	r.wakeUp() // for hosts that joined meanwhile
	return nil
}

// open opens the table, with room for what two configurations have: a change has both in it. One that is new gets the key of
// a peer's, if there is one, so that both can exchange entries.
func (p *Part) open(ctx context.Context, d Desired) (*table.Table, error) {
	o := table.Options{
		Pins: p.o.Pins, Flows: d.Flows, VIPs: 2 * maxVIPs, Backends: 2 * maxBackends, RingSlots: ringSlots,
		Source4: d.Source4, Source6: d.Source6, MTU: d.MTU, Log: p.o.Log,
	}
	t, err := table.Open(o)
	if err != nil || t.TookOver() || len(d.Peers) == 0 || p.o.Control == nil {
		return t, err
	}
	l, err := life(ctx, p.o.State, false)
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	key := p.findKey(ctx, offer{t.Key(), l, d.Peers})
	if key == nil {
		return t, nil
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	o.Key = key
	return table.Open(o)
}

// Apply brings a changed configuration into force. Connections are kept. Another size of the flow table, another outer source or
// MTU needs a restart of the plugin, which keeps them, too: they are part of the program, which is replaced then.
func (p *Part) Apply(ctx context.Context, d Desired) error {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	r := p.running()
	if r == nil {
		return errStopped
	}
	if err := r.ask(ctx, func() error { return r.configure(ctx, d) }); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	return nil
}

// Stop ends control. The program goes on forwarding by what is in the maps.
func (p *Part) Stop(ctx context.Context) error {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	p.mu.Lock()
	r := p.run
	p.run = nil
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.end(ctx)
}

// Remove ends control and takes the program off the interface: the section is gone from the configuration.
func (p *Part) Remove(ctx context.Context) error {
	p.configuring.Lock()
	defer p.configuring.Unlock()
	p.mu.Lock()
	r := p.run
	p.run = nil
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	r.withdraw()
	r.halt()
	return r.table.Remove()
}

// keyLife holds the incarnation of the table's counts.
const keyLife = "life"

// life is the incarnation of the table's counts: that of the process that made the maps.
func life(ctx context.Context, s State, tookOver bool) (uint64, error) {
	if tookOver {
		b, err := s.Get(ctx, keyLife)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", keyLife, err)
		}
		if len(b) == 8 {
			return binary.BigEndian.Uint64(b), nil
		}
	}
	var b [8]byte
	rand.Read(b[:])
	b[7] |= 1 // never 0
	if err := s.Put(ctx, keyLife, b[:]); err != nil {
		return 0, fmt.Errorf("store %s: %w", keyLife, err)
	}
	return binary.BigEndian.Uint64(b[:]), nil
}

// Health is the part's state in one line.
func (p *Part) Health() (pluginpb.Event_Health, string) {
	r := p.running()
	if r == nil {
		return pluginpb.Event_OK, ""
	}
	return r.health()
}
