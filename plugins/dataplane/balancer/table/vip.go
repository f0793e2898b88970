package table

import (
	"fmt"
	"net/netip"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// VIPID names a VIP in the maps, in counters and events. 0 is none. It stays with the VIP's identity.
type VIPID uint16

// Protocol of a VIP's traffic.
type Protocol uint8

// Protocols. QUIC is UDP whose connection ids may name a server; Any is TCP and UDP.
const (
	Any  Protocol = 0
	TCP  Protocol = 6
	UDP  Protocol = 17
	QUIC Protocol = 254
)

func (p Protocol) String() string {
	switch p {
	case Any:
		return "any"
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case QUIC:
		return "quic"
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// wire is what the IP header says.
func (p Protocol) wire() []uint8 {
	switch p {
	case Any:
		return []uint8{uint8(TCP), uint8(UDP)}
	case QUIC:
		return []uint8{uint8(UDP)}
	}
	return []uint8{uint8(p)}
}

// Exhausted is what a new flow meets when no backend has credit.
type Exhausted uint8

// What is done: the packet is dropped; TCP gets a reset; or the ring decides as if all had credit.
const (
	Drop Exhausted = iota
	Reset
	LastWeights
)

// VIP is a service's address. Address, Protocol, First and Last are its identity. Where ranges of one address
// overlap, the narrower one wins, and of two equal ones that with a protocol.
type VIP struct {
	Address     netip.Addr
	Protocol    Protocol
	First, Last uint16 // ports; 0 and 65535 are all of them
	Exhausted   Exhausted
	// PreserveSource puts the client's address into the outer header, PreservePort its port, where the families
	// and the encapsulation have room for it. The inner packet is the client's own in any case.
	PreserveSource, PreservePort bool
}

// identity is what a VIP keeps its id by.
func (v VIP) identity() VIP {
	return VIP{Address: v.Address, Protocol: v.Protocol, First: v.First, Last: v.Last}
}

func (v VIP) check() error {
	switch {
	case !v.Address.IsValid() || v.Address.Is4In6() || v.Address.Zone() != "":
		return fmt.Errorf("VIP %v: no plain IPv4 or IPv6 address", v.Address)
	case v.First > v.Last:
		return fmt.Errorf("VIP %v: ports %d-%d are in the wrong order", v.Address, v.First, v.Last)
	case v.Protocol != Any && v.Protocol != TCP && v.Protocol != UDP && v.Protocol != QUIC:
		return fmt.Errorf("VIP %v: unknown %v", v.Address, v.Protocol)
	case v.Exhausted > LastWeights:
		return fmt.Errorf("VIP %v: unknown policy %d", v.Address, v.Exhausted)
	}
	return nil
}

func (v VIP) flags() uint8 {
	var f uint8
	for _, b := range []struct {
		on   bool
		flag uint8
	}{
		{v.Protocol == QUIC, lb.QUIC},
		{v.PreserveSource, lb.KeepSource},
		{v.PreservePort, lb.KeepPort},
		{v.Exhausted == Reset, lb.Reset},
		{v.Exhausted == LastWeights, lb.LastWeights},
	} {
		if b.on {
			f |= b.flag
		}
	}
	return f
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}
