package neighbour

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Sizes and types of what is read and written.
const (
	ethernet   = 14
	arpBody    = 28
	ipv6Header = 40
	ndBody     = 24 // a solicitation or an advertisement without options
	ndOption   = 8  // a link-layer address option for Ethernet

	typeARP  = 0x0806
	typeIPv6 = 0x86dd

	icmpv6        = 58
	solicitation  = 135
	advertisement = 136
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	allNodes  = netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1})
)

// Question asks for the owner of Target.
type Question struct {
	Target, Asker netip.Addr // Asker is unspecified in a probe
	AskerMAC      net.HardwareAddr
}

// ParseARP reads an Ethernet frame; ok is false for everything but a request.
func ParseARP(f []byte) (q Question, ok bool) {
	if len(f) < ethernet+arpBody || binary.BigEndian.Uint16(f[12:]) != typeARP {
		return q, false
	}
	b := f[ethernet:]
	// Ethernet and IPv4, a request.
	if binary.BigEndian.Uint64(b) != 0x0001_0800_06_04_0001 {
		return q, false
	}
	mac := net.HardwareAddr(b[8:14])
	if mac[0]&1 != 0 {
		return q, false
	}
	return Question{netip.AddrFrom4([4]byte(b[24:])), netip.AddrFrom4([4]byte(b[14:])), mac}, true
}

// ParseSolicitation reads an Ethernet frame; ok is false for everything but a valid neighbour solicitation (RFC 4861,
// section 7.1.1), of which the answer's receiver is known.
func ParseSolicitation(f []byte) (q Question, ok bool) {
	if len(f) < ethernet+ipv6Header+ndBody || binary.BigEndian.Uint16(f[12:]) != typeIPv6 {
		return q, false
	}
	ip := f[ethernet:]
	n := int(binary.BigEndian.Uint16(ip[4:]))
	if ip[0]>>4 != 6 || ip[6] != icmpv6 || ip[7] != 255 || n < ndBody || len(ip) < ipv6Header+n {
		return q, false
	}
	body := ip[ipv6Header : ipv6Header+n]
	if body[0] != solicitation || body[1] != 0 || checksum(ip[8:40], body) != 0 {
		return q, false
	}
	q = Question{Target: netip.AddrFrom16([16]byte(body[8:])), Asker: netip.AddrFrom16([16]byte(ip[8:])), AskerMAC: net.HardwareAddr(f[6:12])}
	return q, !q.Target.IsMulticast() && q.AskerMAC[0]&1 == 0
}

// AppendARP writes an ARP reply from mac for address: to the asker, or to everyone for a zero question.
func AppendARP(b []byte, mac net.HardwareAddr, address netip.Addr, q Question) []byte {
	operation, to, peer := uint16(2), q.AskerMAC, q.Asker
	if to == nil {
		// RFC 5227: an announcement is a request for one's own address.
		operation, to, peer = 1, broadcast, address
	}
	b = append(append(append(b, to...), mac...), typeARP>>8, typeARP&0xff)
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, operation)
	b = append(append(b, mac...), address.AsSlice()...)
	if operation == 1 {
		b = append(b, make([]byte, 6)...)
	} else {
		b = append(b, to...)
	}
	return append(b, peer.AsSlice()...)
}

// AppendAdvertisement writes a neighbour advertisement from mac for address: to the asker, or to all nodes when the
// asker has no address yet or there is no question.
func AppendAdvertisement(b []byte, mac net.HardwareAddr, address netip.Addr, q Question) []byte {
	// Override, and solicited if it answers somebody.
	flags, to, receiver := byte(0x20), q.Asker, q.AskerMAC
	if to.IsValid() && !to.IsUnspecified() {
		flags |= 0x40
	} else {
		to, receiver = allNodes, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
	}
	b = append(append(append(b, receiver...), mac...), typeIPv6>>8, typeIPv6&0xff)
	start := len(b)
	b = append(b, 0x60, 0, 0, 0, 0, ndBody+ndOption, icmpv6, 255)
	b = append(append(b, address.AsSlice()...), to.AsSlice()...)
	b = append(b, advertisement, 0, 0, 0, flags, 0, 0, 0)
	b = append(b, address.AsSlice()...)
	b = append(append(b, 2, 1), mac...) // target link-layer address, one unit of eight octets
	ip := b[start:]
	binary.BigEndian.PutUint16(ip[ipv6Header+2:], checksum(ip[8:40], ip[ipv6Header:]))
	return b
}

// checksum is that of ICMPv6 over the pseudo header; 0 for a message that carries its right one.
func checksum(addresses, body []byte) uint16 {
	sum := uint32(len(body)) + icmpv6
	for _, part := range [][]byte{addresses, body} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
