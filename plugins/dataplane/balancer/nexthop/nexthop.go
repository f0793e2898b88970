// Package nexthop keeps the next hops to the backends resolved.
//
// The program on the NIC asks the kernel for the route and the neighbour of a backend with each packet, and cannot wait
// for an answer that is not there: a neighbour that nobody has talked to for a while would cost connections. Keep finds
// the next hop of each address and has the kernel resolve and refresh it from then on (a managed neighbour,
// NTF_EXT_MANAGED of rtnetlink(7), Linux 5.16). The kernel's entries outlive this process, as the program does.
//
// A Keeper is not safe for concurrent use.
package nexthop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What linux/neighbour.h says and x/sys does not.
const (
	ndaFlagsExt   = 15
	ntfExtManaged = 1
)

// Keeper speaks to the kernel of one network namespace.
type Keeper struct {
	routes     *rtnetlink.Conn
	neighbours *netlink.Conn // rtnetlink's package has no managed ones
}

// hop is a neighbour on a link.
type hop struct {
	address netip.Addr
	link    uint32
}

// Open opens a socket in the calling thread's network namespace.
func Open() (*Keeper, error) {
	routes, err := rtnetlink.Dial(nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	neighbours, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open rtnetlink: %w", err), routes.Close())
	}
	return &Keeper{routes, neighbours}, nil
}

// Close ends the keeper; what it has asked the kernel for stays.
func (k *Keeper) Close() error { return errors.Join(k.routes.Close(), k.neighbours.Close()) }

// Keep has the next hops of addresses resolved. It may be called again with the same ones: routes change.
func (k *Keeper) Keep(addresses []netip.Addr) error {
	var failed []error
	done := map[hop]bool{}
	for _, a := range addresses {
		h, err := k.find(a)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if done[h] {
			continue
		}
		done[h] = true
		if err := k.manage(h); err != nil {
			failed = append(failed, fmt.Errorf("next hop of %v: %w", a, err))
		}
	}
	return errors.Join(failed...)
}

// find asks the kernel for the way to an address.
func (k *Keeper) find(a netip.Addr) (hop, error) {
	family := uint8(unix.AF_INET)
	if a.Is6() {
		family = unix.AF_INET6
	}
	routes, err := k.routes.Route.Get(&rtnetlink.RouteMessage{
		Family: family, DstLength: uint8(a.BitLen()), Attributes: rtnetlink.RouteAttributes{Dst: a.AsSlice()},
	})
	if err != nil {
		return hop{}, fmt.Errorf("way to %v: %w", a, err)
	}
	if len(routes) == 0 {
		return hop{}, fmt.Errorf("way to %v: the kernel names none", a)
	}
	r := routes[0].Attributes
	h := hop{a, r.OutIface}
	if via, ok := netip.AddrFromSlice(r.Gateway); ok {
		h.address = via
	}
	return h, nil
}

// manage has the kernel keep a neighbour resolved.
func (k *Keeper) manage(h hop) error {
	k.neighbours.SetReadDeadline(time.Now().Add(time.Second))
	question, err := k.neighbours.Send(neighbour(h))
	for err == nil {
		var answers []netlink.Message
		if answers, err = k.neighbours.Receive(); err == nil && netlink.Validate(question, answers) == nil {
			return nil
		}
		// Else it is the answer to an earlier question, which came too late.
	}
	return fmt.Errorf("keep neighbour %v resolved: %w", h.address, err)
}

// neighbour is the message that makes a managed one.
func neighbour(h hop) netlink.Message {
	family := byte(unix.AF_INET)
	if h.address.Is6() {
		family = unix.AF_INET6
	}
	// struct ndmsg, then attributes.
	b := make([]byte, 12)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], h.link)
	b[10] = unix.NTF_USE
	e := netlink.NewAttributeEncoder()
	e.Bytes(unix.NDA_DST, h.address.AsSlice())
	e.Uint32(ndaFlagsExt, ntfExtManaged)
	attributes, _ := e.Encode() // bytes and a number always can be
	return netlink.Message{
		Header: netlink.Header{
			Type:  unix.RTM_NEWNEIGH,
			Flags: netlink.Request | netlink.Create | netlink.Replace | netlink.Acknowledge,
		},
		Data: append(b, attributes...),
	}
}
