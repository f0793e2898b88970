package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"

	"github.com/ratchetos/ratchet/hw/nic/netif"
)

// errRefused is returned when a server says no (DHCPNAK): the address must not be used.
var errRefused = errors.New("lease refused by the server")

// errSilence replaces the library's long words for what mostly means that nobody is there.
var errSilence = errors.New("no DHCP server answers")

// firstWait is how long the first packet of an attempt waits for its answer. The library sends
// each packet up to three times and doubles the wait: 1.75 s in all. Short, because the packet
// that is sent right after a link came up is often lost on the other side. The pauses between
// attempts are the machine's.
const (
	firstWait = 250 * time.Millisecond
	sends     = 3
)

// dhcp speaks DHCPv4 on one link. It belongs to one goroutine.
type dhcp struct {
	link     string
	timeout  time.Duration // for the first answer
	hostname string
	current  *nclient4.Lease // as the library needs it to renew
}

// do carries out one of the machine's requests.
func (d *dhcp) do(ctx context.Context, what action) (lease, error) {
	var granted *nclient4.Lease
	var err error
	switch what {
	case actRenew:
		granted, err = d.renew(ctx, true)
	case actRebind:
		granted, err = d.renew(ctx, false)
	default:
		granted, err = d.discover(ctx)
	}
	var nak *nclient4.ErrNak
	if errors.As(err, &nak) {
		return lease{}, fmt.Errorf("%w: %s", errRefused, nak.Nak.Message())
	}
	if errors.Is(err, nclient4.ErrNoResponse) {
		return lease{}, fmt.Errorf("%s on %s: %w", what, d.link, errSilence)
	}
	if err != nil {
		return lease{}, fmt.Errorf("%s on %s: %w", what, d.link, err)
	}
	l, err := fromACK(granted.ACK)
	if err != nil {
		return lease{}, fmt.Errorf("%s on %s: %w", what, d.link, err)
	}
	d.current = granted
	return l, nil
}

// forget drops the lease of which only the library's form is kept here.
func (d *dhcp) forget() { d.current = nil }

func (d *dhcp) options() []dhcpv4.Modifier {
	m := []dhcpv4.Modifier{dhcpv4.WithRequestedOptions(
		dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
		dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionNTPServers,
		dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue)}
	if d.hostname != "" {
		m = append(m, dhcpv4.WithOption(dhcpv4.OptHostName(d.hostname)))
	}
	return m
}

func (d *dhcp) discover(ctx context.Context) (*nclient4.Lease, error) {
	client, err := nclient4.New(d.link, nclient4.WithTimeout(d.timeout), nclient4.WithRetry(sends))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Request(ctx, d.options()...)
}

// renew asks for the current lease again: its own server by unicast, or any by broadcast.
func (d *dhcp) renew(ctx context.Context, unicast bool) (*nclient4.Lease, error) {
	if d.current == nil {
		return d.discover(ctx)
	}
	opts := []nclient4.ClientOpt{nclient4.WithTimeout(d.timeout), nclient4.WithRetry(sends)}
	if unicast {
		opts = append(opts,
			nclient4.WithUnicast(&net.UDPAddr{IP: d.current.ACK.YourIPAddr, Port: nclient4.ClientPort}),
			nclient4.WithServerAddr(&net.UDPAddr{IP: d.current.ACK.ServerIdentifier(), Port: nclient4.ServerPort}))
	}
	client, err := nclient4.New(d.link, opts...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if unicast {
		return client.Renew(ctx, d.current, d.options()...)
	}
	// The library's Renew insists on the server of the lease; rebinding takes any.
	request, err := dhcpv4.NewRenewFromAck(d.current.ACK, d.options()...)
	if err != nil {
		return nil, err
	}
	answer, err := client.SendAndRead(ctx, client.RemoteAddr(), request,
		nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err != nil {
		return nil, err
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		return nil, &nclient4.ErrNak{Offer: d.current.Offer, Nak: answer}
	}
	return &nclient4.Lease{Offer: answer, ACK: answer, CreationTime: time.Now()}, nil
}

// fromACK takes out of a server's answer what is used here. The answer is outside input: what
// makes no sense is left out, and without a usable address the whole answer is an error.
func fromACK(ack *dhcpv4.DHCPv4) (lease, error) {
	address, ok := addr(ack.YourIPAddr)
	if !ok || !address.Is4() || address.IsUnspecified() || address.IsMulticast() || address.IsLoopback() {
		return lease{}, fmt.Errorf("server offered %s, which is no host's address", ack.YourIPAddr)
	}
	bits := 32 // without a mask nothing is known about the network
	if ones, size := ack.SubnetMask().Size(); size == 32 && ones > 0 {
		bits = ones
	}
	server, _ := addr(ack.ServerIdentifier())
	l := lease{
		address: netip.PrefixFrom(address, bits), server: server,
		routers: addrs(ack.Router()), dns: addrs(ack.DNS()), ntp: addrs(ack.NTPServers()),
		duration: ack.IPAddressLeaseTime(0), t1: ack.IPAddressRenewalTime(0), t2: ack.IPAddressRebindingTime(0),
	}
	for _, r := range ack.ClasslessStaticRoute() {
		if r == nil || r.Dest == nil {
			continue
		}
		to, ok := addr(r.Dest.IP)
		ones, size := r.Dest.Mask.Size()
		via, haveVia := addr(r.Router)
		if !ok || size != 32 {
			continue
		}
		entry := netif.Route{To: netip.PrefixFrom(to, ones).Masked()}
		if haveVia && !via.IsUnspecified() {
			entry.Via = via
		}
		l.routes = append(l.routes, entry)
	}
	if list := ack.DomainSearch(); list != nil {
		l.search = names(list.Labels)
	} else if name := ack.DomainName(); name != "" {
		l.search = names([]string{name})
	}
	return l, nil
}

// defaults are the routes of a lease: classless ones if there are any, else the first router.
func (l lease) defaults() []netif.Route {
	if len(l.routes) > 0 {
		return l.routes
	}
	if len(l.routers) > 0 {
		return []netif.Route{{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Via: l.routers[0]}}
	}
	return nil
}

func addr(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

func addrs(ips []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		if a, ok := addr(ip); ok && !a.IsUnspecified() {
			out = append(out, a)
		}
	}
	return out
}
