package lease

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// consuming is one service that this host leases.
type consuming struct {
	name      string
	row       int
	config    ConsumeConfig
	set       *engine.Set
	addresses []netip.Addr
	shown     []engine.Using // what the program has
	changed   bool
	idle      map[string]idle // draining leases: since when nothing went over them
	unrouted  string          // why routes could not be put back, as logged
}

// idle is a counter's value and since when it has not moved.
type idle struct {
	packets uint64
	since   time.Duration
}

func (l *loop) openConsumers() error {
	if len(l.o.Config.Consume) == 0 && l.o.Pins == "" {
		return nil
	}
	var err error
	if l.data, err = openDatapath(l.o.Pins, l.device, l.o.Config.Flows, nil); err != nil {
		return err
	}
	names := make([]string, len(l.o.Config.Consume))
	for i, s := range l.o.Config.Consume {
		names[i] = s.Service
	}
	rows, err := l.data.rowsOf(names)
	if err != nil {
		return err
	}
	addresses, err := l.data.addresses()
	if err != nil {
		return err
	}
	for i, s := range l.o.Config.Consume {
		c := &consuming{name: s.Service, row: rows[i], config: s, changed: true, idle: map[string]idle{}}
		if s.Leases == 0 {
			s.Leases = defaultLeases
		}
		c.set = engine.NewSet(engine.SetOptions{
			Run: l.run, Host: l.o.Host, Service: s.Service, Leases: s.Leases, Agents: len(l.clients), Jitter: l.jitter,
		})
		left := l.data.begin(c.row, s.Service, l.agents)
		for a, row := range addresses {
			if row == c.row && len(left) > 0 {
				c.addresses = append(c.addresses, a)
			}
		}
		// The addresses, too: with no box to name them, what is leased would not be used.
		c.set.Restore(left, c.addresses)
		l.consumed = append(l.consumed, c)
	}
	// What an earlier process sent over the overlay and this one does not goes its usual way again.
	return l.reroute(nil, nil)
}

func (c *consuming) granted(now time.Duration, agent int, g engine.Grant) {
	c.set.Granted(now, agent, g)
	c.changed = true
}

// step asks agents what is due and brings program and routes to what is leased.
func (c *consuming) step(l *loop, now time.Duration) (next time.Duration) {
	l.paths.learn(slices.Clone(c.set.Leases()), func(producer string) { c.set.Failed(now, producer) })
	requests, next := c.set.Step(now)
	for _, r := range requests {
		l.send(r.Agent, r.Want)
	}
	if a := c.set.Addresses(); !slices.Equal(a, c.addresses) {
		if err := l.reroute(c, a); err != nil {
			l.o.Log.Error("cannot route a service", "service", c.name, "error", err)
		} else {
			c.addresses = slices.Clone(a)
		}
	}
	if using := c.set.Leases(); c.changed || !slices.Equal(using, c.shown) {
		l.data.set(c.row, using, l.paths, l.agents)
		c.shown, c.changed = slices.Clone(using), false
	}
	c.releaseIdle(l, now)
	return next
}

// releaseIdle gives draining leases back over which nothing has gone for long.
func (c *consuming) releaseIdle(l *loop, now time.Duration) {
	for _, u := range c.set.Leases() {
		if !u.Draining {
			continue
		}
		n, err := l.data.counts(c.row, u.Producer)
		if err != nil {
			continue // the agent ends it in the end
		}
		have, known := c.idle[u.Producer]
		if !known || have.packets != n.Packets {
			c.idle[u.Producer] = idle{n.Packets, now}
			continue
		}
		if now >= have.since+time.Duration(l.o.Config.DrainIdle) {
			delete(c.idle, u.Producer)
			c.set.Release(now, u.Producer)
			c.changed = true
			return // the list has changed; the others at the next step
		}
	}
}

// reroute sends a service's addresses over the overlay, and those it had no longer.
func (l *loop) reroute(c *consuming, addresses []netip.Addr) error {
	rows := map[netip.Addr]int{}
	for _, other := range l.consumed {
		have := other.addresses
		if other == c {
			have = addresses
		}
		for _, a := range have {
			rows[a] = other.row
		}
	}
	gone, err := l.data.setAddresses(rows)
	if err != nil {
		return err
	}
	for _, a := range gone {
		if err := l.device.Unroute(netip.PrefixFrom(a, a.BitLen())); err != nil {
			return err
		}
	}
	for _, a := range addresses {
		if err := l.device.Route(c.route(a)); err != nil {
			return err
		}
	}
	return nil
}

// route is how one of the service's addresses is reached.
func (c *consuming) route(a netip.Addr) overlay.Route {
	r := overlay.Route{To: netip.PrefixFrom(a, a.BitLen())}
	if source, err := netip.ParseAddr(c.config.Source); err == nil && source.Is4() == a.Is4() {
		r.Source = source
	}
	return r
}

// keepRoutes puts routes back that the kernel has taken away, and says what is in the way when that changes.
func (c *consuming) keepRoutes(l *loop) {
	routes := make([]overlay.Route, len(c.addresses))
	for i, a := range c.addresses {
		routes[i] = c.route(a)
	}
	why := ""
	if err := errors.Join(l.device.Keep(routes)...); err != nil {
		why = err.Error()
	}
	switch {
	case why != "" && why != c.unrouted:
		l.o.Log.Error("cannot route a service", "service", c.name, "error", why)
	case why == "" && c.unrouted != "":
		l.o.Log.Info("service is routed again", "service", c.name)
	}
	c.unrouted = why
}

// paths remembers the ways to producers' hosts between looks.
type paths map[netip.Addr]overlay.Path

// learn looks up the ways that are not known, and reports the producers to whose host there is none.
func (p paths) learn(using []engine.Using, lost func(producer string)) {
	for _, u := range using {
		if _, known := p[u.Target.Host]; known {
			continue
		}
		way, err := overlay.PathTo(u.Target.Host)
		if err != nil {
			lost(u.Producer)
			continue
		}
		p[u.Target.Host] = way
	}
}

// refresh looks the ways to these hosts up anew, as routes and addresses change under a running agent, and forgets all
// others. It says whether anything has changed.
func (p paths) refresh(hosts map[netip.Addr]bool) (changed bool) {
	for host, have := range p {
		way, err := overlay.PathTo(host)
		switch {
		case !hosts[host]:
			delete(p, host)
		case err != nil:
			delete(p, host)
			changed = true
		case way != have:
			p[host] = way
			changed = true
		}
	}
	return changed
}

// lookAgain follows what has changed in the network.
func (l *loop) lookAgain() {
	hosts := map[netip.Addr]bool{}
	for _, c := range l.consumed {
		for _, u := range c.set.Leases() {
			hosts[u.Target.Host] = true
		}
	}
	changed := l.paths.refresh(hosts)
	for _, c := range l.consumed {
		c.changed = c.changed || changed
		c.keepRoutes(l)
	}
	for _, p := range l.produced {
		p.lookAgain(l)
	}
}
