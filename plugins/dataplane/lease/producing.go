package lease

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

const (
	// A producer is dead when that many probes in a row have failed; each has probePatience.
	deadAfter     = 3
	probeEvery    = 300 * time.Millisecond
	probePatience = 200 * time.Millisecond
)

// producing is one producer on this host.
type producing struct {
	config    ProduceConfig
	shares    *engine.Shares
	link      int // of the instance; 0: the host's own stack
	linked    bool
	failures  int
	seen      bool // alive, by a probe
	probing   bool
	probeNext time.Duration
	delivery  overlay.Delivery // as the gate has it
	delivered uint32           // for that VNI; 0: not yet
	phase     engine.Phase
}

func (l *loop) openProducers() error {
	if len(l.o.Config.Produce) == 0 {
		return nil
	}
	var err error
	if l.gate, err = overlay.OpenGate(overlay.GateOptions{Pins: l.o.Pins, Device: l.device}); err != nil {
		return err
	}
	for _, c := range l.o.Config.Produce {
		underlay, err := l.underlay(c)
		if err != nil {
			return err
		}
		target, err := c.tuple(underlay)
		if err != nil {
			return fmt.Errorf("producer %s: %w", c.Name, err)
		}
		p := &producing{config: c, linked: c.Link == ""}
		p.shares = engine.NewShares(engine.SharesOptions{
			Run: l.run, Host: l.o.Host, Service: c.Service, Producer: c.Name, Quota: c.Quota, Target: target, Agents: len(l.clients),
		})
		l.produced = append(l.produced, p)
	}
	return nil
}

// underlay is the host's address for VXLAN: as configured, or the one it uses towards the first box.
func (l *loop) underlay(c ProduceConfig) (netip.Addr, error) {
	if c.Underlay != "" {
		return netip.ParseAddr(c.Underlay)
	}
	if len(l.clients) == 0 {
		return netip.Addr{}, fmt.Errorf("producer %s: there is no box to offer it to", c.Name)
	}
	box, err := netip.ParseAddrPort(l.clients[0].Box())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("producer %s: set underlay, the first box is not named by its address", c.Name)
	}
	way, err := overlay.PathTo(box.Addr())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("producer %s: set underlay: %w", c.Name, err)
	}
	return way.Source, nil
}

// step tells the agents what is due and sets the gate.
func (p *producing) step(l *loop, now time.Duration) (next time.Duration) {
	p.shares.SetState(p.state())
	p.shares.SetAbsent(!p.linked || p.config.Check != "" && !p.seen)
	offers, next := p.shares.Step(now)
	for _, o := range offers {
		l.send(o.Agent, o.Hold)
	}
	p.deliver(l)
	if p.config.Check != "" {
		if now >= p.probeNext && !p.probing {
			p.probing, p.probeNext = true, now+probeEvery
			p.probe(l)
		}
		next = min(next, max(p.probeNext, now+probePatience))
	}
	return next
}

func (p *producing) state() engine.State {
	switch {
	case !p.linked || p.failures >= deadAfter:
		return engine.Gone
	case p.config.Drain:
		return engine.Draining
	}
	return engine.Serving
}

// deliver makes the gate accept what is sent under the producer's epoch, or nothing once another host has it.
func (p *producing) deliver(l *loop) {
	phase, vni := p.shares.Phase(), p.shares.VNI()
	if phase == engine.Asking || vni == 0 {
		return // what an earlier process has set stands
	}
	d := overlay.Delivery{Epoch: overlay.Wire(p.shares.Epoch()), Link: p.link, Closed: phase == engine.Lost}
	if phase != p.phase && phase == engine.Lost {
		l.o.Log.Warn("another host has taken a producer over; this one serves it no longer",
			"service", p.config.Service, "producer", p.config.Name, "host", p.shares.Rival())
	}
	p.phase = phase
	if p.delivered == vni && p.delivery == d {
		return
	}
	if err := l.gate.Set(vni, d); err != nil {
		l.o.Log.Error("cannot set the gate", "producer", p.config.Name, "error", err)
		return
	}
	p.delivered, p.delivery = vni, d
}

// lookAgain finds the instance's link: an instance that restarts gets another one, one that is dead has none.
func (p *producing) lookAgain(l *loop) {
	if p.config.Link == "" {
		return
	}
	i, err := net.InterfaceByName(p.config.Link)
	was := p.linked
	if p.linked = err == nil; p.linked {
		p.link = i.Index
	}
	if was && !p.linked {
		l.o.Log.Warn("the link of an instance is gone", "producer", p.config.Name, "link", p.config.Link)
	}
}

func (p *producing) probe(l *loop) {
	go func() {
		ctx, cancel := context.WithTimeout(l.ctx, probePatience)
		defer cancel()
		c, err := l.o.Dial(ctx, "tcp", p.config.Check)
		if err == nil {
			_ = c.Close()
		}
		select {
		case l.events <- event{probed: p, alive: err == nil}:
		case <-l.ctx.Done():
		}
	}()
}

func (p *producing) probed(alive bool) {
	p.probing = false
	if alive {
		p.failures, p.seen = 0, true
	} else {
		p.failures = min(p.failures+1, deadAfter)
	}
}
