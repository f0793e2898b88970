package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Check says what is wrong with a frame's IP header: lengths that exceed the frame, a checksum, an Ethernet type of
// the other version.
func Check(frame []byte) error {
	if len(frame) < 14 {
		return errors.New("no Ethernet header")
	}
	kind, ip := binary.BigEndian.Uint16(frame[12:]), frame[14:]
	switch kind {
	case 0x0800:
		return check4(ip)
	case 0x86dd:
		return check6(ip)
	}
	return fmt.Errorf("type %#x is not IP", kind)
}

func check4(ip []byte) error {
	if len(ip) < 20 || ip[0]>>4 != 4 {
		return errors.New("no IPv4 header")
	}
	header, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if header < 20 || total < header || total > len(ip) {
		return fmt.Errorf("header of %d bytes, packet of %d in %d", header, total, len(ip))
	}
	if sum := Checksum(ip[:header]); sum != 0 {
		return fmt.Errorf("header's checksum is off by %#x", sum)
	}
	return nil
}

func check6(ip []byte) error {
	if len(ip) < 40 || ip[0]>>4 != 6 {
		return errors.New("no IPv6 header")
	}
	if total := 40 + int(binary.BigEndian.Uint16(ip[4:])); total > len(ip) {
		return fmt.Errorf("packet of %d bytes in %d", total, len(ip))
	}
	return nil
}
