package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is the network namespace of the thread that called Open. It is safe for one goroutine.
type Namespace struct {
	conn *rtnetlink.Conn
}

// Open connects to the calling thread's namespace.
func Open() (*Namespace, error) {
	c, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &Namespace{conn: c}, nil
}

// Close ends the connection.
func (n *Namespace) Close() error { return n.conn.Close() }

// Observe lists the links of the namespace but the loopback.
func (n *Namespace) Observe() ([]Observed, error) {
	links, err := n.conn.Link.List()
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addresses, err := n.conn.Address.List()
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	routes, err := n.conn.Route.List()
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []Observed
	for _, l := range links {
		if l.Flags&unix.IFF_LOOPBACK != 0 || l.Attributes == nil {
			continue
		}
		o := Observed{
			Index: l.Index, Name: l.Attributes.Name, MAC: l.Attributes.Address.String(), MTU: l.Attributes.MTU,
			Up: l.Flags&unix.IFF_UP != 0, Carrier: l.Flags&unix.IFF_LOWER_UP != 0,
		}
		if s := l.Attributes.Stats64; s != nil {
			o.Counters = Counters{s.RXBytes, s.TXBytes, s.RXPackets, s.TXPackets, s.RXErrors, s.TXErrors, s.RXDropped, s.TXDropped}
		}
		for _, a := range addresses {
			if a.Index == l.Index && a.Scope == unix.RT_SCOPE_UNIVERSE && a.Attributes != nil {
				if p, ok := prefix(a.Attributes.Address, int(a.PrefixLength)); ok {
					o.Addresses = append(o.Addresses, p)
				}
			}
		}
		for _, r := range routes {
			if r.Attributes.OutIface == l.Index && r.Protocol == unix.RTPROT_STATIC && r.Table == unix.RT_TABLE_MAIN {
				if rt, ok := route(r); ok {
					o.Routes = append(o.Routes, rt)
				}
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// Do carries out one operation. Doing what is already done is no error.
func (n *Namespace) Do(op Op) error {
	var err error
	switch op.Verb {
	case Down, Up:
		m := &rtnetlink.LinkMessage{Index: op.Index, Change: unix.IFF_UP}
		if op.Verb == Up {
			m.Flags = unix.IFF_UP
		}
		err = n.conn.Link.Set(m)
	case Rename:
		if err = n.rename(op.Index, op.Name); errors.Is(err, unix.EEXIST) {
			// The link that has the name may be about to get this one's: it gets out of the way, and tries again.
			err = errors.Join(err, n.rename(op.Index, fmt.Sprintf("nic-%d", op.Index)))
		}
	case SetMTU:
		err = n.conn.Link.Set(&rtnetlink.LinkMessage{Index: op.Index, Attributes: &rtnetlink.LinkAttributes{MTU: op.MTU}})
	case AddAddress:
		err = ignore(n.conn.Address.New(addressMessage(op)), unix.EEXIST)
	case DeleteAddress:
		err = ignore(n.conn.Address.Delete(addressMessage(op)), unix.EADDRNOTAVAIL)
	case AddRoute:
		err = n.conn.Route.Replace(routeMessage(op))
	case DeleteRoute:
		err = ignore(n.conn.Route.Delete(routeMessage(op)), unix.ESRCH)
	default:
		err = fmt.Errorf("unknown operation")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (n *Namespace) rename(index uint32, name string) error {
	return n.conn.Link.Set(&rtnetlink.LinkMessage{Index: index, Attributes: &rtnetlink.LinkAttributes{Name: name}})
}

func ignore(err error, done unix.Errno) error {
	if errors.Is(err, done) {
		return nil
	}
	return err
}

// Changes signals on the channel whenever a link, address or route of the namespace changed, until ctx ends.
// Several changes in a row may give one signal. It must be called on a thread of the namespace.
func Changes(ctx context.Context) (<-chan struct{}, error) {
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE)
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("follow link changes: %w", err)
	}
	signal := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	go func() {
		defer close(signal)
		defer c.Close()
		defer stop()
		for {
			// A full socket buffer (ENOBUFS) means changes were missed: that is a change too.
			if _, err := c.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				if ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
			}
			select {
			case signal <- struct{}{}:
			default:
			}
		}
	}()
	return signal, nil
}

func addressMessage(op Op) *rtnetlink.AddressMessage {
	ip := net.IP(op.Address.Addr().AsSlice())
	m := &rtnetlink.AddressMessage{
		Family: family(op.Address.Addr()), PrefixLength: uint8(op.Address.Bits()), Index: op.Index,
		Scope:      unix.RT_SCOPE_UNIVERSE,
		Attributes: &rtnetlink.AddressAttributes{Address: ip, Local: ip},
	}
	if op.Address.Addr().Is4() {
		m.Attributes.Broadcast = broadcast(op.Address)
	} else {
		// The configuration vouches for the address; duplicate detection would keep it unusable for a second.
		m.Attributes.Flags = unix.IFA_F_NODAD
	}
	return m
}

func routeMessage(op Op) *rtnetlink.RouteMessage {
	m := &rtnetlink.RouteMessage{
		Family: family(op.Route.To.Addr()), DstLength: uint8(op.Route.To.Bits()),
		Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_STATIC, Type: unix.RTN_UNICAST, Scope: unix.RT_SCOPE_LINK,
		Attributes: rtnetlink.RouteAttributes{OutIface: op.Index, Priority: op.Route.Metric},
	}
	if op.Route.To.Bits() > 0 {
		m.Attributes.Dst = op.Route.To.Addr().AsSlice()
	}
	if op.Route.Via.IsValid() {
		m.Scope = unix.RT_SCOPE_UNIVERSE
		m.Attributes.Gateway = op.Route.Via.AsSlice()
	}
	return m
}

func route(m rtnetlink.RouteMessage) (Route, bool) {
	dst := m.Attributes.Dst
	if dst == nil {
		if m.Family == unix.AF_INET {
			dst = net.IPv4zero
		} else {
			dst = net.IPv6zero
		}
	}
	to, ok := prefix(dst, int(m.DstLength))
	if !ok {
		return Route{}, false
	}
	r := Route{To: to, Metric: m.Attributes.Priority}
	if to.Addr().Is6() && r.Metric == DefaultMetric6 {
		r.Metric = 0
	}
	if m.Attributes.Gateway != nil {
		via, ok := netip.AddrFromSlice(m.Attributes.Gateway)
		if !ok {
			return Route{}, false
		}
		r.Via = via.Unmap()
	}
	return r, true
}

func prefix(ip net.IP, bits int) (netip.Prefix, bool) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, false
	}
	p := netip.PrefixFrom(a.Unmap(), bits)
	return p, p.IsValid()
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func broadcast(p netip.Prefix) net.IP {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return net.IP(b[:])
}
