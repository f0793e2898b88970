package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
)

// asTrans stands in two-octet fields for an AS number that does not fit (RFC 6793).
const asTrans = 23456

// perUpdate bounds the routes of one UPDATE: 128 of IPv6 take 2,176 of the 4,096 octets.
const perUpdate = 128

// open is our OPEN. restarting says that this speaker was up before and kept forwarding.
func open(s Speaker, restarting bool) (*bgp.BGPMessage, error) {
	as := uint16(asTrans)
	if s.AS <= 0xffff {
		as = uint16(s.AS)
	}
	families := []*bgp.CapGracefulRestartTuple{
		bgp.NewCapGracefulRestartTuple(bgp.RF_IPv4_UC, true), bgp.NewCapGracefulRestartTuple(bgp.RF_IPv6_UC, true),
	}
	return bgp.NewBGPOpenMessage(as, uint16(s.HoldTime/time.Second), s.RouterID, []bgp.OptionParameterInterface{
		bgp.NewOptionParameterCapability([]bgp.ParameterCapabilityInterface{
			bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapMultiProtocol(bgp.RF_IPv6_UC),
			bgp.NewCapRouteRefresh(), bgp.NewCapFourOctetASNumber(s.AS),
			// Twelve bits of seconds.
			bgp.NewCapGracefulRestart(restarting, false, uint16(min(s.RestartTime/time.Second, 4095)), families),
		}),
	})
}

// peerOf reads from an OPEN who speaks and which hold time it wants.
func peerOf(o *bgp.BGPOpen) (as uint32, hold time.Duration, families map[bgp.Family]bool) {
	as, families = uint32(o.MyAS), map[bgp.Family]bool{}
	for _, p := range o.OptParams {
		c, ok := p.(*bgp.OptionParameterCapability)
		if !ok {
			continue
		}
		for _, capability := range c.Capability {
			switch capability := capability.(type) {
			case *bgp.CapFourOctetASNumber:
				as = capability.CapValue
			case *bgp.CapMultiProtocol:
				families[capability.CapValue] = true
			}
		}
	}
	if len(families) == 0 {
		families[bgp.RF_IPv4_UC] = true
	}
	return as, time.Duration(o.HoldTime) * time.Second, families
}

// hops are the next hops of one session.
type hops struct{ v4, v6 netip.Addr }

// updates announces addresses, in as many messages as it takes. internal is for a neighbour of our own AS.
func updates(addresses []netip.Addr, as uint32, internal bool, h hops) ([]*bgp.BGPMessage, error) {
	var out []*bgp.BGPMessage
	err := chunks(addresses, func(family bgp.Family, routes []bgp.PathNLRI) error {
		attributes := []bgp.PathAttributeInterface{bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP)}
		path := []bgp.AsPathParamInterface{}
		if !internal {
			path = append(path, bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, []uint32{as}))
		}
		attributes = append(attributes, bgp.NewPathAttributeAsPath(path))
		if internal {
			attributes = append(attributes, bgp.NewPathAttributeLocalPref(100))
		}
		if family == bgp.RF_IPv4_UC {
			hop, err := bgp.NewPathAttributeNextHop(h.v4)
			if err != nil {
				return errors.New("no IPv4 next hop: set next_hop4")
			}
			out = append(out, bgp.NewBGPUpdateMessage(nil, append(attributes, hop), routes))
			return nil
		}
		if !h.v6.IsValid() {
			return errors.New("no IPv6 next hop: set next_hop6")
		}
		reach, err := bgp.NewPathAttributeMpReachNLRI(family, routes, h.v6)
		if err != nil {
			return err
		}
		out = append(out, bgp.NewBGPUpdateMessage(nil, append(attributes, reach), nil))
		return nil
	})
	return out, err
}

// withdrawals takes addresses back.
func withdrawals(addresses []netip.Addr) ([]*bgp.BGPMessage, error) {
	var out []*bgp.BGPMessage
	err := chunks(addresses, func(family bgp.Family, routes []bgp.PathNLRI) error {
		if family == bgp.RF_IPv4_UC {
			out = append(out, bgp.NewBGPUpdateMessage(routes, nil, nil))
			return nil
		}
		unreach, err := bgp.NewPathAttributeMpUnreachNLRI(family, routes)
		if err != nil {
			return err
		}
		out = append(out, bgp.NewBGPUpdateMessage(nil, []bgp.PathAttributeInterface{unreach}, nil))
		return nil
	})
	return out, err
}

// chunks calls f with host routes of one family, at most perUpdate at a time.
func chunks(addresses []netip.Addr, f func(bgp.Family, []bgp.PathNLRI) error) error {
	for _, family := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		var routes []bgp.PathNLRI
		flush := func() error {
			if len(routes) == 0 {
				return nil
			}
			err := f(family, routes)
			routes = nil
			return err
		}
		for _, a := range addresses {
			if a.Is4() != (family == bgp.RF_IPv4_UC) {
				continue
			}
			nlri, err := bgp.NewIPAddrPrefix(netip.PrefixFrom(a, a.BitLen()))
			if err != nil {
				return fmt.Errorf("route to %v: %w", a, err)
			}
			if routes = append(routes, bgp.PathNLRI{NLRI: nlri}); len(routes) == perUpdate {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}

// message is what is read of a neighbour's messages: their type, and the body where it matters.
type message struct {
	kind uint8
	body bgp.BGPBody // of OPEN and NOTIFICATION
}

// read takes one message from r. Bodies of UPDATE are passed over unread.
func read(r io.Reader) (message, error) {
	var header [bgp.BGP_HEADER_LENGTH]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return message{}, err
	}
	for _, c := range header[:16] {
		if c != 0xff {
			return message{}, errors.New("message without marker: not BGP")
		}
	}
	h := bgp.BGPHeader{Len: binary.BigEndian.Uint16(header[16:]), Type: header[18]}
	if h.Len < bgp.BGP_HEADER_LENGTH || h.Len > bgp.BGP_MAX_MESSAGE_LENGTH {
		return message{}, fmt.Errorf("message of %d octets", h.Len)
	}
	body := make([]byte, h.Len-bgp.BGP_HEADER_LENGTH)
	if _, err := io.ReadFull(r, body); err != nil {
		return message{}, fmt.Errorf("read message: %w", err)
	}
	m := message{kind: h.Type}
	if h.Type == bgp.BGP_MSG_OPEN || h.Type == bgp.BGP_MSG_NOTIFICATION {
		parsed, err := bgp.ParseBGPBody(&h, body)
		if err != nil {
			return message{}, fmt.Errorf("parse message of type %d: %w", h.Type, err)
		}
		m.body = parsed.Body
	}
	return m, nil
}
