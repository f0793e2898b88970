package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Kind is what an Entry describes.
type Kind int

// Kinds of entries of an interface.
const (
	Address Kind = iota
	Route
	Neighbour
)

// Entry is an address, a route or a neighbour of an interface, as the kernel told it: the payload of its RTM_NEW message.
// It is moved by changing the interface in it and handing it back, so that what this package knows nothing of (metrics,
// preferred sources, tables) moves along.
type Entry struct {
	Kind    Kind
	Message []byte
	// Text is for people: "10.0.2.15/24", "default via 10.0.2.2".
	Text string
	// Addr is the address, the route's gateway (invalid without one) or the neighbour.
	Addr netip.Addr
}

// header sizes of ifaddrmsg, rtmsg and ndmsg, and where the first and third hold the interface.
var (
	headerSize = [...]int{Address: unix.SizeofIfAddrmsg, Route: unix.SizeofRtMsg, Neighbour: unix.SizeofNdMsg}
	indexAt    = [...]int{Address: 4, Neighbour: 4}
)

const (
	ntfProxy = 0x08
	ntfUse   = 0x01
	// What a neighbour's state may be to be worth moving: all in which its hardware address is known.
	nudKnown = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT
)

// errSkip is for entries that the kernel makes by itself wherever the others go.
var errSkip = errors.New("not to be moved")

// attribute is one netlink attribute; data shares the message's memory.
type attribute struct {
	kind uint16
	data []byte
}

func attributes(b []byte) ([]attribute, error) {
	var out []attribute
	for len(b) > 0 {
		if len(b) < unix.SizeofRtAttr {
			return nil, errors.New("attribute is cut off")
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return nil, fmt.Errorf("attribute of %d bytes in %d", n, len(b))
		}
		out = append(out, attribute{binary.NativeEndian.Uint16(b[2:]) &^ unix.NLA_F_NESTED, b[unix.SizeofRtAttr:n]})
		b = b[min((n+3)&^3, len(b)):]
	}
	return out, nil
}

func appendAttribute(b []byte, kind uint16, data []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(data)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&3)...)
}

// parseEntry reads an entry of the interface. errSkip is for those of others, and for those that do not move.
func parseEntry(kind Kind, message []byte, index uint32) (Entry, error) {
	if len(message) < headerSize[kind] {
		return Entry{}, errors.New("parse netlink message: it is shorter than its header")
	}
	attrs, err := attributes(message[headerSize[kind]:])
	if err != nil {
		return Entry{}, fmt.Errorf("parse netlink message: %w", err)
	}
	e := Entry{Kind: kind, Message: message}
	if kind != Route && binary.NativeEndian.Uint32(message[indexAt[kind]:]) != index {
		return Entry{}, errSkip
	}
	switch kind {
	case Address:
		return e.address(attrs)
	case Route:
		return e.route(attrs, index)
	default:
		return e.neighbour(attrs)
	}
}

func (e Entry) address(attrs []attribute) (Entry, error) {
	for _, a := range attrs {
		// IFA_LOCAL is the own end; IFA_ADDRESS the peer's of a point-to-point link, or the same.
		if addr, ok := netip.AddrFromSlice(a.data); ok && (a.kind == unix.IFA_LOCAL || a.kind == unix.IFA_ADDRESS && !e.Addr.IsValid()) {
			e.Addr = addr
		}
	}
	if !e.Addr.IsValid() {
		return e, errors.New("parse netlink message: address without an address")
	}
	// A link-local address is made from the card's own MAC.
	if e.Addr.Is6() && e.Addr.IsLinkLocalUnicast() {
		return e, errSkip
	}
	e.Text = fmt.Sprintf("%s/%d", e.Addr, e.Message[1])
	return e, nil
}

func (e Entry) route(attrs []attribute, index uint32) (Entry, error) {
	dst, out, shared := netip.Addr{}, uint32(0), false
	table := uint32(e.Message[4])
	for _, a := range attrs {
		switch {
		case a.kind == unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(a.data)
		case a.kind == unix.RTA_GATEWAY:
			e.Addr, _ = netip.AddrFromSlice(a.data)
		case a.kind == unix.RTA_OIF && len(a.data) == 4:
			out = binary.NativeEndian.Uint32(a.data)
		case a.kind == unix.RTA_MULTIPATH:
			shared = hops(a.data, index)
		case a.kind == unix.RTA_TABLE && len(a.data) == 4:
			table = binary.NativeEndian.Uint32(a.data)
		}
	}
	switch {
	case table == unix.RT_TABLE_LOCAL, e.Message[7] != unix.RTN_UNICAST:
		return e, errSkip
	case e.Message[5] == unix.RTPROT_RA:
		return e, errSkip // the router tells the new card, too
	case dst.Is6() && (dst.IsLinkLocalUnicast() || dst.IsMulticast()):
		return e, errSkip
	case shared:
		return e, errors.New("a route goes over several cards, of which this is one: move that by a hook")
	case out != index:
		return e, errSkip
	}
	e.Text = "default"
	if dst.IsValid() {
		e.Text = fmt.Sprintf("%s/%d", dst, e.Message[1])
	}
	if e.Addr.IsValid() {
		e.Text += " via " + e.Addr.String()
	}
	return e, nil
}

// hops tells whether one of the ways of a route over several cards, a list of struct rtnexthop, is by an interface.
func hops(list []byte, index uint32) bool {
	for len(list) >= unix.SizeofRtNexthop {
		if binary.NativeEndian.Uint32(list[4:]) == index {
			return true
		}
		n := (int(binary.NativeEndian.Uint16(list)) + 3) &^ 3
		if n < unix.SizeofRtNexthop || n > len(list) {
			return false
		}
		list = list[n:]
	}
	return false
}

func (e Entry) neighbour(attrs []attribute) (Entry, error) {
	known := false
	for _, a := range attrs {
		switch a.kind {
		case unix.NDA_DST:
			e.Addr, _ = netip.AddrFromSlice(a.data)
		case unix.NDA_LLADDR:
			known = len(a.data) == 6
		}
	}
	state := binary.NativeEndian.Uint16(e.Message[8:])
	if !known || !e.Addr.IsValid() || state&nudKnown == 0 || e.Message[10]&ntfProxy != 0 {
		return e, errSkip
	}
	e.Text = e.Addr.String()
	return e, nil
}

// on is the entry on another interface.
func (e Entry) on(index uint32) Entry {
	h := headerSize[e.Kind]
	m := append(make([]byte, 0, len(e.Message)), e.Message[:h]...)
	if e.Kind != Route {
		binary.NativeEndian.PutUint32(m[indexAt[e.Kind]:], index)
	}
	if e.Kind == Neighbour {
		// Known, to be confirmed when it is used: what the other side answers on the new card is not seen yet.
		if binary.NativeEndian.Uint16(m[8:]) != unix.NUD_PERMANENT {
			binary.NativeEndian.PutUint16(m[8:], unix.NUD_STALE)
		}
		m[10] = 0
	}
	attrs, _ := attributes(e.Message[h:]) // parseEntry has read them
	for _, a := range attrs {
		switch {
		case e.Kind == Address && a.kind == unix.IFA_LABEL: // begins with the old card's name
		case e.Kind == Address && a.kind == unix.IFA_FLAGS && len(a.data) == 4:
			// The address was in use until now: nobody else has it, and looking for one who has costs a second.
			flags := binary.NativeEndian.Uint32(a.data)&(unix.IFA_F_NOPREFIXROUTE|unix.IFA_F_MCAUTOJOIN) | unix.IFA_F_NODAD
			m = appendAttribute(m, a.kind, binary.NativeEndian.AppendUint32(nil, flags))
		case e.Kind == Route && a.kind == unix.RTA_OIF:
			m = appendAttribute(m, a.kind, binary.NativeEndian.AppendUint32(nil, index))
		case e.Kind == Route && a.kind == unix.RTA_CACHEINFO,
			e.Kind == Neighbour && a.kind != unix.NDA_DST && a.kind != unix.NDA_LLADDR: // the kernel's own statistics
		default:
			m = appendAttribute(m, a.kind, a.data)
		}
	}
	if e.Kind == Route { // not DEAD or LINKDOWN, which is said of the old card
		binary.NativeEndian.PutUint32(m[8:], binary.NativeEndian.Uint32(m[8:])&unix.RTNH_F_ONLINK)
	}
	e.Message = m
	return e
}

// resolve is the entry that makes the kernel look for a neighbour.
func resolve(addr netip.Addr, index uint32) Entry {
	m := make([]byte, unix.SizeofNdMsg)
	m[0] = unix.AF_INET
	if addr.Is6() {
		m[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(m[indexAt[Neighbour]:], index)
	m[10] = ntfUse
	return Entry{Kind: Neighbour, Message: appendAttribute(m, unix.NDA_DST, addr.AsSlice()), Text: addr.String(), Addr: addr}
}
