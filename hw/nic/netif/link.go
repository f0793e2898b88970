// Package netif steers one network interface of this network namespace over rtnetlink(7): state, addresses, routes.
//
// Setting what is already so and removing what is gone are no errors, so that a caller may apply what it wants at any
// time. A Link is one goroutine's.
package netif

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Route is one entry of the routing table; an invalid Via means that the net is on the link.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Metrics: below those of router advertisements (1024), so that what is configured or leased
// wins; equal to what other clients use for wired links.
const metric = 100

// ProtocolDHCP and ProtocolStatic mark routes as ours (linux/rtnetlink.h).
const (
	ProtocolStatic = unix.RTPROT_STATIC
	ProtocolDHCP   = unix.RTPROT_DHCP
)

// Link is one network interface.
type Link struct {
	conn  *rtnetlink.Conn
	name  string
	index uint32
}

// Open finds the interface by its name.
func Open(name string) (*Link, error) {
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return &Link{conn: conn, name: name, index: uint32(ifi.Index)}, nil
}

// Close ends the connection to the kernel; the interface stays as it is.
func (l *Link) Close() { l.conn.Close() }

// Up starts the link.
func (l *Link) Up() error { return l.set("up", unix.IFF_UP) }

// Down stops the link; the kernel drops its routes.
func (l *Link) Down() error { return l.set("down", 0) }

func (l *Link) set(to string, flags uint32) error {
	err := l.conn.Link.Set(&rtnetlink.LinkMessage{Index: l.index, Flags: flags, Change: unix.IFF_UP})
	if err != nil {
		return fmt.Errorf("set link %s %s: %w", l.name, to, err)
	}
	return nil
}

// AcceptRA turns IPv6 autoconfiguration on. 2 means even when this box forwards packets, which
// one with a dataplane does. A kernel without IPv6 has no such file.
func (l *Link) AcceptRA() error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+l.name+"/accept_ra", []byte("2"), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// AddAddress gives the link an address of its own.
func (l *Link) AddAddress(p netip.Prefix) error {
	err := l.conn.Address.New(l.addressMessage(p))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add address %s to %s: %w", p, l.name, err)
	}
	return nil
}

// SetAddress gives the link an address of its own, or another lifetime to one that it has: the kernel takes it away
// after valid, rounded up to seconds; 0 is for ever.
func (l *Link) SetAddress(p netip.Prefix, valid time.Duration) error {
	m := lifetime{l.addressMessage(p), math.MaxUint32}
	if valid > 0 {
		m.seconds = uint32(min((valid+time.Second-1)/time.Second, math.MaxUint32))
	}
	flags := netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Replace
	if _, err := l.conn.Execute(m, unix.RTM_NEWADDR, flags); err != nil {
		return fmt.Errorf("set address %s of %s: %w", p, l.name, err)
	}
	return nil
}

// lifetime is an address with IFA_CACHEINFO, which the library only reads.
type lifetime struct {
	*rtnetlink.AddressMessage
	seconds uint32
}

// MarshalBinary implements rtnetlink.Message.
func (m lifetime) MarshalBinary() ([]byte, error) {
	b, err := m.AddressMessage.MarshalBinary()
	if err != nil {
		return nil, err
	}
	// struct ifa_cacheinfo: preferred, valid, and two that only the kernel writes.
	var info []byte
	for _, v := range []uint32{m.seconds, m.seconds, 0, 0} {
		info = binary.NativeEndian.AppendUint32(info, v)
	}
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.IFA_CACHEINFO, info)
	more, err := e.Encode()
	return append(b, more...), err
}

// DeleteAddress takes one away.
func (l *Link) DeleteAddress(p netip.Prefix) error {
	err := l.conn.Address.Delete(l.addressMessage(p))
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete address %s from %s: %w", p, l.name, err)
	}
	return nil
}

func (l *Link) addressMessage(p netip.Prefix) *rtnetlink.AddressMessage {
	m := &rtnetlink.AddressMessage{
		Family: family(p.Addr()), PrefixLength: uint8(p.Bits()), Index: l.index,
		Attributes: &rtnetlink.AddressAttributes{Address: p.Addr().AsSlice(), Local: p.Addr().AsSlice()},
	}
	if p.Addr().Is4() && p.Bits() < 31 {
		m.Attributes.Broadcast = broadcast(p)
	}
	return m
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) net.IP {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return b[:]
}

// ReplaceRoute sets a route over the link, marked with who made it.
func (l *Link) ReplaceRoute(r Route, protocol uint8) error {
	if err := l.conn.Route.Replace(l.routeMessage(r, protocol)); err != nil {
		return fmt.Errorf("set route to %s over %s: %w", r.To, l.name, err)
	}
	return nil
}

// DeleteRoute removes one.
func (l *Link) DeleteRoute(r Route, protocol uint8) error {
	err := l.conn.Route.Delete(l.routeMessage(r, protocol))
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete route to %s over %s: %w", r.To, l.name, err)
	}
	return nil
}

func (l *Link) routeMessage(r Route, protocol uint8) *rtnetlink.RouteMessage {
	m := &rtnetlink.RouteMessage{
		Family: family(r.To.Addr()), DstLength: uint8(r.To.Bits()), Table: unix.RT_TABLE_MAIN,
		Protocol: protocol, Scope: unix.RT_SCOPE_LINK, Type: unix.RTN_UNICAST,
		Attributes: rtnetlink.RouteAttributes{OutIface: l.index, Priority: metric},
	}
	if r.To.Bits() > 0 {
		m.Attributes.Dst = r.To.Masked().Addr().AsSlice()
	}
	if r.Via.IsValid() {
		m.Scope, m.Attributes.Gateway = unix.RT_SCOPE_UNIVERSE, r.Via.AsSlice()
	}
	return m
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// State is what the kernel says about a link now.
type State struct {
	Exists, Up, Carrier bool
	Addresses           []netip.Prefix // usable ones: no duplicates under test, no link-local
}

// Observe reads the link's state; a link that is gone does not exist, and that is no error.
func (l *Link) Observe() (State, error) {
	var o State
	msg, err := l.conn.Link.Get(l.index)
	if errors.Is(err, unix.ENODEV) {
		return o, nil // unplugged
	}
	if err != nil {
		return o, fmt.Errorf("read link %s: %w", l.name, err)
	}
	o.Exists, o.Up, o.Carrier = true, msg.Flags&unix.IFF_UP != 0, msg.Flags&unix.IFF_LOWER_UP != 0
	all, err := l.conn.Address.List()
	if err != nil {
		return o, fmt.Errorf("read addresses of %s: %w", l.name, err)
	}
	for _, a := range all {
		if a.Index != l.index || a.Attributes == nil {
			continue
		}
		ip := a.Attributes.Address
		if a.Attributes.Local != nil { // on point-to-point links Address is the peer's
			ip = a.Attributes.Local
		}
		addr, ok := netip.AddrFromSlice(ip)
		flags := uint32(a.Flags) | a.Attributes.Flags
		if !ok || flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 || addr.Unmap().IsLinkLocalUnicast() {
			continue
		}
		o.Addresses = append(o.Addresses, netip.PrefixFrom(addr.Unmap(), int(a.PrefixLength)))
	}
	return o, nil
}

// LoopbackUp gives lo its state and, by that, its addresses.
func LoopbackUp() error {
	lo, err := Open("lo")
	if err != nil {
		return err
	}
	defer lo.Close()
	return lo.Up()
}

// Follow calls changed after every change of a link or an address, until ctx ends or the
// socket fails. Events say only that something changed: the loop reads what is so.
func Follow(ctx context.Context, changed func()) error {
	conn, err := rtnetlink.Dial(&netlink.Config{
		Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR,
	})
	if err != nil {
		return fmt.Errorf("follow link changes: %w", err)
	}
	go func() {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() }) // ends Receive
		defer stop()
		// Lost events (ENOBUFS) and messages that the library cannot read are changes like any
		// other. A socket that only fails is given up; the loop then goes by its timers.
		for failures := 0; failures < 100; failures++ {
			_, _, err := conn.Receive()
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				failures = 0
			}
			changed()
		}
	}()
	return nil
}
