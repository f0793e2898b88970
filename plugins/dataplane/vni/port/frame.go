package port

import (
	"encoding/binary"
	"net/netip"
)

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Announcement is the frame that tells a segment that an address is at a MAC: a gratuitous ARP request (RFC 5227
// section 3), or an unsolicited neighbour advertisement that overrides (RFC 4861 section 7.2.6).
func Announcement(mac [6]byte, a netip.Addr) []byte {
	if a.Is4() {
		ip := a.As4()
		return arp(mac, broadcast, 1, mac, ip, [6]byte{}, ip)
	}
	ip := a.As16()
	body := binary.BigEndian.AppendUint32([]byte{136, 0, 0, 0}, 1<<29) // override
	body = append(body, ip[:]...)
	body = append(body, 2, 1) // target link-layer address
	body = append(body, mac[:]...)
	return icmp6([6]byte{0x33, 0x33, 0, 0, 0, 1}, mac, ip, netip.MustParseAddr("ff02::1").As16(), body)
}

// Question asks an instance for its own address, by a probe that changes no neighbour's table: ARP from nobody
// (RFC 5227 section 2.1.1), or the solicitation that duplicate address detection sends. It is sent to the VNI's
// MAC alone.
func Question(from, mac [6]byte, a netip.Addr) []byte {
	if a.Is4() {
		return arp(from, mac, 1, from, [4]byte{}, [6]byte{}, a.As4())
	}
	ip := a.As16()
	body := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, ip[:]...)
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], ip[13:])
	return icmp6(mac, from, netip.IPv6Unspecified().As16(), group, body)
}

// Answers says whether a frame is the answer to a Question for the address.
func Answers(frame []byte, a netip.Addr) bool {
	if len(frame) < 14 {
		return false
	}
	switch body := frame[14:]; binary.BigEndian.Uint16(frame[12:]) {
	case 0x0806:
		return a.Is4() && len(body) >= 28 && binary.BigEndian.Uint16(body[6:]) == 2 && [4]byte(body[14:18]) == a.As4()
	case 0x86dd:
		return a.Is6() && len(body) >= 64 && body[6] == 58 && body[40] == 136 && [16]byte(body[48:64]) == a.As16()
	}
	return false
}

func arp(src, dst [6]byte, operation uint16, sender [6]byte, senderIP [4]byte, target [6]byte, targetIP [4]byte) []byte {
	f := ethernet(dst, src, 0x0806)
	f = append(f, 0, 1, 8, 0, 6, 4)
	f = binary.BigEndian.AppendUint16(f, operation)
	f = append(append(f, sender[:]...), senderIP[:]...)
	f = append(append(f, target[:]...), targetIP[:]...)
	return f
}

func icmp6(dst, src [6]byte, from, to [16]byte, body []byte) []byte {
	// The checksum covers a pseudo header of addresses, length and protocol (RFC 4443 section 2.3).
	pseudo := append(append([]byte(nil), from[:]...), to[:]...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(body)))
	pseudo = append(append(pseudo, 0, 0, 0, 58), body...)
	binary.BigEndian.PutUint16(body[2:], checksum(pseudo))
	f := ethernet(dst, src, 0x86dd)
	f = append(f, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(len(body)))
	f = append(f, 58, 255)
	f = append(append(f, from[:]...), to[:]...)
	return append(f, body...)
}

func ethernet(dst, src [6]byte, kind uint16) []byte {
	f := make([]byte, 0, 96)
	f = append(append(f, dst[:]...), src[:]...)
	return binary.BigEndian.AppendUint16(f, kind)
}

// checksum is the Internet's (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
