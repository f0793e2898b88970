package network

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/hw/nic/netif"
)

// session is the state of run: what was asked for, what was leased, what was applied.
type session struct {
	*Management
	link    *netif.Link
	client  *dhcp
	machine machine

	was     netif.State
	applied applied
	written string // what is in the resolver's file
}

// applied is what this package has put into the kernel.
type applied struct {
	lease  netip.Prefix // address of the lease, invalid when none
	routes []netif.Route
}

const (
	// idle is how often the loop looks around when no timer and no event calls.
	idle = time.Minute
	// settle is the pause after something failed or was started.
	settle = time.Second
)

// turn brings everything a step nearer to how it should be and says when to look again.
func (s *session) turn(ctx context.Context) time.Duration {
	now, err := s.link.Observe()
	if err != nil {
		s.problem(err)
		return settle
	}
	defer func() { s.was = now }()
	switch {
	case !now.Exists:
		s.problem(errors.New("the management NIC is gone"))
		s.publish(now)
		return idle
	case !now.Up:
		s.applied = applied{} // the kernel has dropped the routes with the link
		if err := errors.Join(s.link.AcceptRA(), s.link.Up()); err != nil {
			s.problem(err)
			return settle
		}
		return settle // the change of state calls sooner
	}
	problem := s.static(now)
	if s.was.Exists && now.Carrier && !s.was.Carrier {
		s.machine.replugged(time.Now())
	}
	wait := idle
	if !s.config.NoDHCP && now.Carrier {
		next, err := s.lease(ctx, &now)
		problem, wait = errors.Join(problem, err), min(wait, next)
	}
	problem = errors.Join(problem, s.resolver())
	if problem == nil && !now.Carrier {
		problem = errors.New("no carrier: is a cable plugged in?")
	}
	s.problem(problem)
	s.publish(now)
	return max(wait, time.Millisecond)
}

// static applies what the configuration names; it runs on every turn, so that what somebody
// removes comes back. The first turn takes over what may have been leased before.
func (s *session) static(now netif.State) error {
	var errs []error
	for _, a := range s.config.Addresses {
		if !s.was.Exists || !slices.Contains(now.Addresses, a) {
			errs = append(errs, s.link.SetAddress(a, 0))
		}
	}
	for _, g := range s.config.Gateway {
		errs = append(errs, s.link.ReplaceRoute(defaultRoute(g), netif.ProtocolStatic))
	}
	return errors.Join(errs...)
}

func defaultRoute(via netip.Addr) netif.Route {
	any4, any6 := netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	if via.Is4() {
		return netif.Route{To: any4, Via: via}
	}
	return netif.Route{To: any6, Via: via}
}

// lease does what the machine wants now and says when it wants something again.
func (s *session) lease(ctx context.Context, now *netif.State) (time.Duration, error) {
	for ctx.Err() == nil {
		do, wait := s.machine.step(time.Now())
		switch do {
		case actWait:
			return wait, s.keep(now)
		case actExpire:
			s.log.Warn("lease ran out", "address", s.machine.lease.address)
			s.drop()
			continue
		}
		granted, err := s.client.do(ctx, do)
		switch {
		case ctx.Err() != nil:
			return idle, nil
		case errors.Is(err, errRefused) && s.machine.phase != phaseInit:
			s.log.Warn("lease refused", "address", s.machine.lease.address)
			s.drop()
		case err != nil:
			s.machine.failed(time.Now())
			_, wait := s.machine.step(time.Now())
			return max(wait, settle), err
		default:
			s.machine.granted(granted, time.Now())
			if err := s.take(granted); err != nil {
				return settle, err
			}
			*now, err = s.link.Observe()
			s.log.Info("lease", "address", granted.address, "server", granted.server, "for", s.machine.lease.duration)
			if err != nil {
				return settle, err
			}
		}
	}
	return idle, nil
}

// keep puts the leased address back when it has gone.
func (s *session) keep(now *netif.State) error {
	if s.machine.phase == phaseInit || slices.Contains(now.Addresses, s.machine.lease.address) {
		return nil
	}
	if err := s.take(s.machine.lease); err != nil {
		return err
	}
	var err error
	*now, err = s.link.Observe()
	return err
}

// take applies a lease; what the one before had and this one has not is removed afterwards, so
// that a renewal never leaves the box without an address.
func (s *session) take(l lease) error {
	// The kernel knows when the lease ends, should nobody be there to see to it.
	valid := max(time.Until(s.machine.since.Add(s.machine.lease.duration)), time.Second)
	if slices.Contains(s.config.Addresses, l.address) {
		valid = 0
	}
	if err := s.link.SetAddress(l.address, valid); err != nil {
		return err
	}
	var errs []error
	routes := slices.DeleteFunc(slices.Clone(l.defaults()), func(r netif.Route) bool {
		return r.To.Bits() == 0 && slices.ContainsFunc(s.config.Gateway, netip.Addr.Is4) // the configuration's comes first
	})
	// A gateway outside of the leased network (a /32, as some clouds give) needs a way of its own.
	var ways []netif.Route
	for _, r := range routes {
		if way := (netif.Route{To: netip.PrefixFrom(r.Via, r.Via.BitLen())}); r.Via.IsValid() && !l.address.Contains(r.Via) && !slices.Contains(ways, way) {
			ways = append(ways, way)
		}
	}
	routes = append(ways, routes...)
	for _, r := range routes {
		errs = append(errs, s.link.ReplaceRoute(r, netif.ProtocolDHCP))
	}
	old := s.applied
	s.applied = applied{lease: l.address, routes: routes}
	for _, r := range old.routes {
		if !slices.Contains(routes, r) && !slices.ContainsFunc(routes, func(n netif.Route) bool { return n.To == r.To }) {
			errs = append(errs, s.link.DeleteRoute(r, netif.ProtocolDHCP))
		}
	}
	if old.lease.IsValid() && old.lease != l.address && !slices.Contains(s.config.Addresses, old.lease) {
		errs = append(errs, s.link.DeleteAddress(old.lease))
	}
	return errors.Join(errs...)
}

// drop gives the leased address up.
func (s *session) drop() {
	for _, r := range s.applied.routes {
		if err := s.link.DeleteRoute(r, netif.ProtocolDHCP); err != nil {
			s.log.Warn("give lease up", "err", err)
		}
	}
	if s.applied.lease.IsValid() && !slices.Contains(s.config.Addresses, s.applied.lease) {
		if err := s.link.DeleteAddress(s.applied.lease); err != nil {
			s.log.Warn("give lease up", "err", err)
		}
	}
	s.applied = applied{}
	s.client.forget()
	s.machine.lost(time.Now())
}

// servers merges the configuration's name servers with those of the lease.
func (s *session) servers() (dns []netip.Addr, search []string) {
	dns = append(slices.Clone(s.config.DNS), s.machine.lease.dns...)
	search = append(slices.Clone(s.config.Search), s.machine.lease.search...)
	return dns, search
}

// resolver writes the resolver's file when what it should say has changed.
func (s *session) resolver() error {
	dns, search := s.servers()
	text := resolvConf(dns, search)
	if text == s.written || len(dns) == 0 && len(search) == 0 && !s.config.NoDHCP && !s.machine.lease.address.IsValid() {
		return nil // nothing is known yet
	}
	if err := writeResolvConf(s.config.ResolvConf, dns, search); err != nil {
		return err
	}
	s.written = text
	return nil
}

// publish makes the state visible, and the network ready with its first address.
func (s *session) publish(now netif.State) {
	dns, search := s.servers()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	st.Carrier, st.Addresses, st.DNS, st.Search = now.Carrier, now.Addresses, dns, search
	st.Gateway = slices.Clone(s.config.Gateway)
	for _, r := range s.applied.routes {
		if r.To.Bits() == 0 && r.Via.IsValid() {
			st.Gateway = append(st.Gateway, r.Via)
		}
	}
	st.Lease, st.NTP = nil, nil
	if !s.config.NoDHCP {
		l := s.machine.lease
		st.Lease, st.NTP = &Lease{State: string(s.machine.phase)}, l.ntp
		if l.address.IsValid() {
			*st.Lease = Lease{State: string(s.machine.phase), Address: l.address, Server: l.server, Expires: s.machine.since.Add(l.duration)}
		}
	}
	if len(now.Addresses) > 0 && now.Carrier {
		select {
		case <-s.ready:
		default:
			close(s.ready)
		}
	}
}
