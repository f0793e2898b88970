package overlay

import (
	"encoding/binary"
	"errors"
	"net"
)

const (
	// Port is VXLAN's UDP port (IANA).
	Port = 4789
	// HeaderSize is the size of a VXLAN header.
	HeaderSize = 8
	// Overhead4 is what encapsulation over IPv4 adds to an IP packet's size on its link: the inner Ethernet header,
	// VXLAN, UDP, and the outer IPv4 header.
	Overhead4 = 14 + HeaderSize + 8 + 20
	// Overhead6 is the same over IPv6.
	Overhead6 = 14 + HeaderSize + 8 + 40
	// MaxVNI is the largest virtual network identifier.
	MaxVNI = 1<<24 - 1
)

const (
	flagVNI   = 0x08
	flagEpoch = 0x80 // VXLAN-GBP: the second half of the first word is a Group Policy ID
)

// MAC is the inner destination of packets for a host's own stack, on every host: locally administered, unicast.
func MAC() net.HardwareAddr { return net.HardwareAddr{0x02, 'r', 'a', 't', 'v', 'x'} }

// ErrHeader says that bytes are not a VXLAN header this package sends or accepts.
var ErrHeader = errors.New("not a VXLAN header")

// Header is a VXLAN header.
type Header struct {
	VNI   uint32 // at most MaxVNI
	Epoch uint16 // 0: none
}

// Append adds the header's eight bytes to b.
func (h Header) Append(b []byte) []byte {
	first := uint32(flagVNI) << 24
	if h.Epoch != 0 {
		first |= flagEpoch<<24 | uint32(h.Epoch)
	}
	b = binary.BigEndian.AppendUint32(b, first)
	return binary.BigEndian.AppendUint32(b, h.VNI<<8)
}

// Parse reads a header as the kernel's gbp device does: the VNI must be there, and no bit that it does not know.
func Parse(b []byte) (h Header, inner []byte, err error) {
	if len(b) < HeaderSize {
		return Header{}, nil, ErrHeader
	}
	first, second := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	flags := byte(first >> 24)
	if flags&flagVNI == 0 || flags&^(flagVNI|flagEpoch) != 0 || second&0xff != 0 {
		return Header{}, nil, ErrHeader
	}
	if flags&flagEpoch != 0 {
		h.Epoch = uint16(first)
	} else if first&0xffffff != 0 {
		return Header{}, nil, ErrHeader
	}
	h.VNI = second >> 8
	return h, b[HeaderSize:], nil
}

// Newer says whether epoch a is later than b, as serial numbers (RFC 1982) are compared.
func Newer(a, b uint16) bool { return int16(a-b) > 0 }

// Next is the epoch after e, never 0.
func Next(e uint16) uint16 {
	if e++; e == 0 {
		e = 1
	}
	return e
}

// Wire is how a counter that never wraps is carried in a packet: in 1 to 65,535, and 0 for 0. Of two counters less
// than 32,767 apart Newer knows the later one.
func Wire(counter uint64) uint16 {
	if counter == 0 {
		return 0
	}
	return uint16((counter-1)%0xffff) + 1
}
