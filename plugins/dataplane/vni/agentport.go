package vni

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/port"
)

// probeMisses is how many questions in a row may stay without an answer.
const probeMisses = 3

// witness is who says whether an instance lives.
type witness int

const (
	byLink witness = iota
	byProcess
	byProbe
	witnesses
)

// verdict is what a witness says, or all of them.
type verdict uint8

const (
	unknown verdict = iota
	alive
	dead
)

func verdictOf(ok bool) verdict {
	if ok {
		return alive
	}
	return dead
}

// portState is a port and what its witnesses say.
type portState struct {
	PortConfig
	link    int // its index; 0: not there
	says    [witnesses]verdict
	health  verdict
	entry   failover.Entry // of its VNI
	stop    context.CancelFunc
	probing int    // the link that is being asked on
	missing string // why it could not be plugged in, as logged
}

// wants says whether a witness is asked at all.
func (p *portState) wants(w witness) bool {
	switch w {
	case byProcess:
		return p.PIDFile != ""
	case byProbe:
		return p.Probe == "arp"
	}
	return true
}

// verdict is dead if any witness says so, and alive if all do.
func (p *portState) verdict() verdict {
	sum := alive
	for w := range witnesses {
		switch {
		case !p.wants(w) || p.says[w] == alive:
		case p.says[w] == dead:
			return dead
		default:
			sum = unknown
		}
	}
	return sum
}

func (p *portState) how() uint8 {
	switch p.Kind {
	case kindMacvtap:
		return byIngress
	case kindVeth:
		return byPeer
	}
	return byEgress
}

func indexOf(link string) (int, error) {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", link, err)
	}
	return i.Index, nil
}

// linkSeen takes what the kernel says of a link.
func (a *Agent) linkSeen(ctx context.Context, g *errgroup.Group, l port.Link) {
	for k, p := range a.ports {
		switch {
		case p.link == l.Index && (l.Gone || l.Name != p.Device):
			a.unplugged(p)
		case p.Device == l.Name && !l.Gone:
			if p.link != l.Index {
				if p.link != 0 {
					a.unplugged(p)
				}
				if err := a.fence.Port(k.vni, l.Index, p.Kind == kindMacvtap); err != nil {
					a.log.Warn("port not guarded, so not used", "port", p.Device, "err", err)
					continue
				}
				p.link = l.Index
			}
			p.says[byLink] = verdictOf(l.Carrier)
		default:
			continue
		}
		a.probe(ctx, g, k, p)
		a.judge(ctx, g, k, p)
	}
}

func (a *Agent) unplugged(p *portState) {
	if err := a.fence.Forget(p.link); err != nil {
		a.log.Debug("port forgotten", "port", p.Device, "err", err)
	}
	p.link, p.says[byLink], p.says[byProbe] = 0, dead, unknown
}

func (a *Agent) witnessed(ctx context.Context, g *errgroup.Group, w witnessed) {
	p := a.ports[w.key]
	if w.witness == byProbe && w.ifindex != p.probing {
		return // of a prober that has been stopped
	}
	p.says[w.witness] = verdictOf(w.alive)
	a.judge(ctx, g, w.key, p)
}

// judge acts on a change of a port's health: a dead instance loses the VNI here and now, before anyone is told.
func (a *Agent) judge(ctx context.Context, g *errgroup.Group, k portKey, p *portState) {
	v := p.verdict()
	if v == p.health || v == unknown {
		return
	}
	p.health = v
	a.log.Info("instance", "vni", k.vni, "instance", k.instance, "alive", v == alive)
	if s, must := a.follower.Health(k.vni, k.instance, v == alive); must {
		err := a.step(s)
		a.follower.Done(s, err == nil)
		if err != nil {
			a.log.Warn("dead instance not detached", "vni", k.vni, "err", err)
		}
	}
	a.beat(ctx, g)
}

// follow gives a port what the box says of its VNI: who is missing is plugged in, and the prober knows what to ask.
func (a *Agent) follow(ctx context.Context, g *errgroup.Group, e failover.Entry) {
	k := portKey{e.Interface, e.Instance}
	p := a.ports[k]
	if p == nil {
		return
	}
	same := p.entry.MAC == e.MAC && slices.Equal(p.entry.Addresses, e.Addresses)
	p.entry = e
	if p.link == 0 {
		a.plugIn(p)
		return // the kernel tells of the new link
	}
	if !same {
		a.quit(p)
	}
	a.probe(ctx, g, k, p)
}

// probe keeps one prober going on a port that wants one.
func (a *Agent) probe(ctx context.Context, g *errgroup.Group, k portKey, p *portState) {
	if p.Probe != "arp" || p.probing == p.link {
		return
	}
	a.quit(p)
	if p.link == 0 || len(p.entry.Addresses) == 0 {
		return
	}
	w, err := port.OpenWire(p.link, true)
	if err != nil {
		a.log.Warn("port not probed", "port", p.Device, "err", err)
		return
	}
	ctx, p.stop = context.WithCancel(ctx)
	p.probing = p.link
	link, mac, address := p.link, p.entry.MAC, p.entry.Addresses[0]
	g.Go(func() error {
		defer w.Close()
		w.Probe(ctx, mac, address, p.every(), probeMisses, func(alive bool) {
			a.witness(ctx, witnessed{key: k, witness: byProbe, alive: alive, ifindex: link})
		})
		return nil
	})
}

// quit ends a port's prober.
func (a *Agent) quit(p *portState) {
	if p.stop != nil {
		p.stop()
	}
	p.stop, p.probing = nil, 0
}

// plugFor bounds how long beats wait for ports that are plugged in, but for the last of them.
const plugFor = 10 * time.Millisecond

// plugMissing tries again what could not be plugged in: a container that starts anew has another namespace, some time
// after the end of its old one took its port along. What there is no time for has its turn later: ports come in any order.
func (a *Agent) plugMissing() {
	end := now() + plugFor
	for _, p := range a.ports {
		if p.link == 0 && p.entry.Interface != 0 {
			if a.plugIn(p); now() > end {
				return
			}
		}
	}
}

// plugIn says what is in the way when that changes.
func (a *Agent) plugIn(p *portState) {
	why := ""
	if err := a.plug(p); err != nil {
		why = err.Error()
	}
	if why != "" && why != p.missing {
		a.log.Warn("missing port not plugged in; it is tried again, and taken when it appears", "port", p.Device, "err", why)
	}
	p.missing = why
}

// plug makes a device that is missing, if this host can make it. It takes milliseconds, and so is done when the
// agent hears of a VNI, not when the VNI moves.
func (a *Agent) plug(p *portState) error {
	e := port.End{Device: p.Device, Netns: p.Netns, Inner: p.Inner, Lower: a.o.Config.Uplink, MAC: p.entry.MAC, Addresses: p.entry.Addresses}
	plug := port.PlugTap
	switch {
	case p.Kind == kindVeth && p.Netns != "":
		plug = port.PlugVeth
		if _, err := os.Stat(p.Netns); err != nil { // asked first, as to look for a link takes long where there are many
			return fmt.Errorf("plug %s in: find the instance's namespace: %w", p.Device, err)
		}
	case p.Kind == kindMacvtap && e.Lower != "":
		plug = port.PlugMacvtap
	case p.Kind != kindTap:
		return nil
	}
	if _, err := indexOf(p.Device); err == nil {
		return nil
	}
	return plug(e)
}
