package guest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
)

func parseMAC(s string) (mac [6]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(b) != len(mac) {
		return mac, fmt.Errorf("parse MAC address %q: want six bytes", s)
	}
	copy(mac[:], b)
	return mac, nil
}

// announcement is the Ethernet frame that says where an address is now: an ARP announcement (RFC 5227, 2.3) or an
// unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6).
func announcement(mac [6]byte, addr netip.Addr) []byte {
	if addr.Is4() {
		f := append(make([]byte, 0, 42), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
		f = append(f, mac[:]...)
		f = append(f, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1) // Ethernet, IPv4, request
		f = append(f, mac[:]...)
		f = append(f, addr.AsSlice()...)
		f = append(f, make([]byte, 6)...)
		return append(f, addr.AsSlice()...)
	}
	all := netip.MustParseAddr("ff02::1").As16()
	own := addr.As16()
	f := append(make([]byte, 0, 86), 0x33, 0x33, 0, 0, 0, 1)
	f = append(f, mac[:]...)
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255) // ICMPv6, hop limit 255
	f = append(f, own[:]...)
	f = append(f, all[:]...)
	icmp := append(make([]byte, 0, 32), 136, 0, 0, 0, 0x20, 0, 0, 0) // advertisement, override
	icmp = append(icmp, own[:]...)
	icmp = append(icmp, 2, 1) // target's link-layer address
	icmp = append(icmp, mac[:]...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(own, all, icmp))
	return append(f, icmp...)
}

// checksum is that of an ICMPv6 message (RFC 4443, 2.3) of an even length below 256.
func checksum(from, to [16]byte, message []byte) uint16 {
	sum := uint32(58 + len(message))
	for _, part := range [][]byte{from[:], to[:], message} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
