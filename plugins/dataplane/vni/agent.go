package vni

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/port"
)

const (
	countEvery  = 2 * time.Second
	pullTimeout = 500 * time.Millisecond
	// inFlight bounds the beats to one box that wait for their answers.
	inFlight = 4
)

// client is the host's end of the channel to one box.
type client interface {
	HandleDatagram(kind uint8, h func(payload []byte))
	Call(ctx context.Context, method string, request, reply any) error
	Exchange(ctx context.Context, kind uint8, payload []byte) ([]byte, error)
}

var _ client = (*control.Client)(nil)

// AgentOptions is what an Agent is made with.
type AgentOptions struct {
	Log     *slog.Logger
	Clients []*control.Client // one for each box
	Pins    string            // directory on a bpffs; "" in tests: nothing outlives the process
	Config  AgentConfig

	vars map[string]any // constants of the fence's programs: mutants
}

// Agent is a host's side: it beats, carries out assignments, looks after the ports, keeps the lease.
type Agent struct {
	o        AgentOptions
	log      *slog.Logger
	clients  []client
	underlay netip.Addr

	incarnation uint64
	follower    *failover.Follower
	fence       *Fence
	ports       map[portKey]*portState
	uplink      int
	wire        *port.Wire // to announce on; nil without a segment

	events  chan any
	slots   []chan struct{} // by box: beats in flight
	pulling bool
	counted map[string]uint64 // what the boxes have been told of the fence's counters
	known   map[uint32]bool   // VNIs the fence knows
}

// What the agent's goroutine is told.
type (
	replied struct {
		box  int
		sent time.Duration // 0: it came unasked
		failover.Reply
	}
	pulled struct {
		failover.Assignment
		err error
	}
	linkSeen  port.Link
	witnessed struct {
		key     portKey
		witness witness
		alive   bool
		ifindex int // of the link the prober asked on
	}
)

// NewAgent makes the agent and sets its handlers on the clients.
func NewAgent(o AgentOptions) (*Agent, error) {
	a := &Agent{o: o, log: o.Log, ports: map[portKey]*portState{}, known: map[uint32]bool{}, events: make(chan any, 256)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if a.underlay, err = netip.ParseAddr(o.Config.Underlay); err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	a.incarnation = binary.BigEndian.Uint64(random[:])
	a.follower = failover.NewFollower(len(o.Clients))
	for i, c := range o.Clients {
		a.slots = append(a.slots, make(chan struct{}, inFlight))
		a.clients = append(a.clients, c)
		c.HandleDatagram(control.KindBeat, func(payload []byte) {
			if r, err := parseReply(payload); err == nil {
				a.offer(replied{box: i, Reply: r})
			}
		})
	}
	for _, p := range o.Config.Ports {
		a.ports[p.key()] = &portState{PortConfig: p}
	}
	return a, nil
}

// offer never blocks: what does not fit is said again by the next beat's reply.
func (a *Agent) offer(event any) {
	select {
	case a.events <- event:
	default:
	}
}

// Run works until ctx ends. It keeps the network namespace of the thread that called it. What is pinned stays:
// the fence closes by itself when the lease is over.
func (a *Agent) Run(ctx context.Context) error {
	// Every netlink socket, device and program belongs to the namespace the agent was started in.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := a.open(); err != nil {
		return err
	}
	defer a.close()
	g, ctx := errgroup.WithContext(ctx)
	links, wait, err := port.Links(ctx, func(l port.Link) {
		select {
		case a.events <- linkSeen(l):
		case <-ctx.Done():
		}
	})
	if err != nil {
		return err
	}
	defer wait()
	for k, p := range a.ports {
		if p.PIDFile != "" {
			g.Go(func() error {
				port.Process(ctx, p.PIDFile, func(alive bool) { a.witness(ctx, witnessed{key: k, witness: byProcess, alive: alive}) })
				return nil
			})
		}
	}
	for _, l := range links {
		a.linkSeen(ctx, g, l)
	}
	for k, p := range a.ports {
		if p.link == 0 {
			p.says[byLink] = dead
			a.judge(ctx, g, k, p)
		}
	}
	a.loop(ctx, g)
	return g.Wait()
}

func (a *Agent) witness(ctx context.Context, w witnessed) {
	select {
	case a.events <- w:
	case <-ctx.Done():
	}
}

// open loads the fence and puts it where packets come in, before any port is used.
func (a *Agent) open() error {
	var pins *bpf.Pins
	var err error
	if a.o.Pins != "" {
		var other *bpf.LayoutError
		pins, err = bpf.OpenPins(a.o.Pins, "fence", fenceLayout)
		if errors.As(err, &other) {
			a.log.Warn("the fence of another version is pinned and goes on working until its links are replaced", "err", err)
		} else if err != nil {
			return fmt.Errorf("attachments: %w", err)
		}
	}
	if a.fence, err = openFence(pins, a.o.vars); err != nil {
		return err
	}
	device, err := overlay.Ensure(overlay.Options{Name: a.o.Config.Overlay})
	if err != nil {
		return errors.Join(err, a.fence.Close())
	}
	if err := a.fence.Overlay(device.Index); err != nil {
		return errors.Join(err, a.fence.Close())
	}
	if err := a.openSegment(); err != nil {
		return errors.Join(err, a.fence.Close())
	}
	return a.resume()
}

func (a *Agent) openSegment() error {
	if !a.o.Config.Segment {
		return nil
	}
	index, err := indexOf(a.o.Config.Uplink)
	if err != nil {
		return fmt.Errorf("uplink: %w", err)
	}
	a.uplink = index
	if err := a.fence.Segment(index); err != nil {
		return err
	}
	a.wire, err = port.OpenWire(index, false)
	return err
}

// resume learns what an earlier process of this host left attached, and what it left in the fence.
func (a *Agent) resume() error {
	for _, id := range a.fence.Known() {
		a.known[id] = true
	}
	var known []failover.Known
	for id, h := range a.fence.Held() {
		found := false
		for k, p := range a.ports {
			if index, err := indexOf(p.Device); err == nil && k.vni == id && index == h.Link {
				known = append(known, failover.Known{Interface: id, Instance: k.instance, Epoch: h.Epoch, Attached: true})
				found = true
			}
		}
		if !found { // its port is not configured any more
			if err := a.fence.Detach(id); err != nil {
				return err
			}
		}
	}
	a.follower.Resume(known)
	return nil
}

func (a *Agent) close() {
	if a.wire != nil {
		a.wire.Close()
	}
	_ = a.fence.Close()
}

// loop is the only goroutine that touches the follower, the fence and the ports.
func (a *Agent) loop(ctx context.Context, g *errgroup.Group) {
	tick, count := time.NewTicker(beatEvery), time.NewTicker(countEvery)
	defer tick.Stop()
	defer count.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.beat(ctx, g)
		case <-count.C:
			a.count(ctx, g)
			a.plugMissing()
		case e := <-a.events:
			switch e := e.(type) {
			case replied:
				a.replied(ctx, g, e)
			case pulled:
				a.pulled(ctx, g, e)
			case linkSeen:
				a.linkSeen(ctx, g, port.Link(e))
			case witnessed:
				a.witnessed(ctx, g, e)
			}
		}
	}
}

func now() time.Duration { return time.Duration(bpf.BootNow()) }
