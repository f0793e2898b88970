// Package packet builds frames byte by byte for tests, with right checksums unless a test asks for wrong ones, and
// says where two frames differ.
//
// It is for tests alone: what it makes is then handed to the kernel. Nothing here is shared state.
// Sources: RFC 791, 8200, 9293, 768, 792, 4443, 7348.
package packet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// MAC is an Ethernet address.
type MAC [6]byte

// Protocol numbers.
const (
	ICMPv4   = 1
	IPIP     = 4
	TCPv4    = 6
	UDPv4    = 17
	IPv6     = 41
	Routing  = 43
	Fragment = 44
	GRE      = 47
	ICMPv6   = 58
	DstOpts  = 60
)

// Flags of TCP.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// IP is a header of either version; the addresses say which.
type IP struct {
	Src, Dst netip.Addr
	TOS      uint8
	TTL      uint8 // 0 is 64
	ID       uint32
	DF, MF   bool
	Offset   int    // of a fragment, in bytes
	Options  []byte // of IPv4, a multiple of four
	// Extensions of IPv6 in front of the fragment header, which is added by itself.
	Extensions  []Extension
	BadChecksum bool
}

// Extension is an IPv6 extension header; Body counts from its third byte and makes it a multiple of eight.
type Extension struct {
	Type uint8
	Body []byte
}

// Packet is the header and what it carries.
func (h IP) Packet(protocol uint8, body []byte) []byte {
	if h.Dst.Is4() {
		return h.v4(protocol, body)
	}
	return h.v6(protocol, body)
}

func (h IP) ttl() uint8 {
	if h.TTL == 0 {
		return 64
	}
	return h.TTL
}

func (h IP) v4(protocol uint8, body []byte) []byte {
	header := 20 + len(h.Options)
	b := make([]byte, 20, header+len(body))
	b[0] = 4<<4 | byte(header/4)
	b[1] = h.TOS
	binary.BigEndian.PutUint16(b[2:], uint16(header+len(body)))
	binary.BigEndian.PutUint16(b[4:], uint16(h.ID))
	fragment := uint16(h.Offset / 8)
	if h.DF {
		fragment |= 1 << 14
	}
	if h.MF {
		fragment |= 1 << 13
	}
	binary.BigEndian.PutUint16(b[6:], fragment)
	b[8], b[9] = h.ttl(), protocol
	copy(b[12:], h.Src.AsSlice())
	copy(b[16:], h.Dst.AsSlice())
	b = append(b, h.Options...)
	sum := Checksum(b)
	if h.BadChecksum {
		sum ^= 0x5555
	}
	binary.BigEndian.PutUint16(b[10:], sum)
	return append(b, body...)
}

func (h IP) v6(protocol uint8, body []byte) []byte {
	extensions := h.Extensions
	if h.MF || h.Offset != 0 {
		f := binary.BigEndian.AppendUint16(nil, uint16(h.Offset)|uint16(bit(h.MF)))
		extensions = append(extensions[:len(extensions):len(extensions)], Extension{Fragment, binary.BigEndian.AppendUint32(f, h.ID)})
	}
	var chain []byte
	first := protocol
	for i, e := range extensions {
		next := protocol
		if i+1 < len(extensions) {
			next = extensions[i+1].Type
		}
		if i == 0 {
			first = e.Type
		}
		chain = append(chain, next, byte((len(e.Body)+2)/8-1))
		chain = append(chain, e.Body...)
	}
	b := make([]byte, 8, 40+len(chain)+len(body))
	binary.BigEndian.PutUint32(b, 6<<28|uint32(h.TOS)<<20)
	binary.BigEndian.PutUint16(b[4:], uint16(len(chain)+len(body)))
	b[6], b[7] = first, h.ttl()
	b = append(append(b, h.Src.AsSlice()...), h.Dst.AsSlice()...)
	return append(append(b, chain...), body...)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TCP is a segment's header.
type TCP struct {
	Src, Dst uint16
	Seq, Ack uint32
	Flags    uint8
	Window   uint16
	Options  []byte // a multiple of four
	Offset   uint8  // words; 0 is the right one
}

// Segment is a whole IP packet.
func (t TCP) Segment(ip IP, payload []byte) []byte {
	b := make([]byte, 20, 20+len(t.Options)+len(payload))
	binary.BigEndian.PutUint16(b, t.Src)
	binary.BigEndian.PutUint16(b[2:], t.Dst)
	binary.BigEndian.PutUint32(b[4:], t.Seq)
	binary.BigEndian.PutUint32(b[8:], t.Ack)
	b[12] = byte(5+len(t.Options)/4) << 4
	if t.Offset != 0 {
		b[12] = t.Offset << 4
	}
	b[13] = t.Flags
	binary.BigEndian.PutUint16(b[14:], t.Window)
	b = append(append(b, t.Options...), payload...)
	binary.BigEndian.PutUint16(b[16:], ip.transport(TCPv4, b))
	return ip.Packet(TCPv4, b)
}

// UDP is a datagram's header.
type UDP struct {
	Src, Dst   uint16
	Length     uint16 // 0 is the right one
	NoChecksum bool
}

// Datagram is a whole IP packet.
func (u UDP) Datagram(ip IP, payload []byte) []byte {
	b := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(b, u.Src)
	binary.BigEndian.PutUint16(b[2:], u.Dst)
	length := uint16(8 + len(payload))
	if u.Length != 0 {
		length = u.Length
	}
	binary.BigEndian.PutUint16(b[4:], length)
	b = append(b, payload...)
	if !u.NoChecksum {
		sum := ip.transport(UDPv4, b)
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(b[6:], sum)
	}
	return ip.Packet(UDPv4, b)
}

// ICMP is a message's header, of the version that the addresses say.
type ICMP struct {
	Type, Code uint8
	Rest       uint32 // MTU, among others
}

// Message is a whole IP packet; quoted is what follows the header.
func (m ICMP) Message(ip IP, quoted []byte) []byte {
	b := []byte{m.Type, m.Code, 0, 0}
	b = append(binary.BigEndian.AppendUint32(b, m.Rest), quoted...)
	if ip.Dst.Is4() {
		binary.BigEndian.PutUint16(b[2:], Checksum(b))
		return ip.Packet(ICMPv4, b)
	}
	binary.BigEndian.PutUint16(b[2:], ip.transport(ICMPv6, b))
	return ip.Packet(ICMPv6, b)
}

// VXLAN is the header and the frame behind it.
func VXLAN(vni uint32, frame []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
	return append(b, frame...)
}

// Frame puts an Ethernet header in front of an IP packet.
func Frame(dst, src MAC, packet []byte) []byte {
	kind := uint16(0x0800)
	if len(packet) > 0 && packet[0]>>4 == 6 {
		kind = 0x86dd
	}
	return Ethernet(dst, src, kind, packet)
}

// Ethernet puts a header with any type in front of a payload.
func Ethernet(dst, src MAC, kind uint16, payload []byte) []byte {
	b := append(append(make([]byte, 0, 14+len(payload)), dst[:]...), src[:]...)
	return append(binary.BigEndian.AppendUint16(b, kind), payload...)
}

// transport is the checksum over the pseudo header and a segment.
func (h IP) transport(protocol uint8, segment []byte) uint16 {
	pseudo := append(h.Src.AsSlice(), h.Dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(segment)))
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(protocol))
	return Checksum(append(pseudo, segment...))
}

// Checksum is that of RFC 1071.
func Checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// Diff says where two frames differ, sixteen bytes a line; "" if they do not.
func Diff(want, got []byte) string {
	if string(want) == string(got) {
		return ""
	}
	var s strings.Builder
	fmt.Fprintf(&s, "want %d bytes, got %d\n", len(want), len(got))
	for at := 0; at < max(len(want), len(got)); at += 16 {
		w, g := line(want, at), line(got, at)
		if string(w) != string(g) {
			fmt.Fprintf(&s, "%04x  want % x\n      got  % x\n", at, w, g)
		}
	}
	return s.String()
}

func line(b []byte, at int) []byte {
	if at >= len(b) {
		return nil
	}
	return b[at:min(at+16, len(b))]
}
