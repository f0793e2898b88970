package vni

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

// Beats and replies on the wire, big endian:
//
//	beat:  1 version, 3 zero, 8 incarnation, 8 number, 8 term, 4 assignment, 4 ms unled, 8 echo,
//	       16 underlay (zero: none; IPv4 mapped), 2 count, count × 2 bits {attached, healthy}, the first in the lowest
//	reply: 1 version, 1 leads, 2 zero, 4 assignment, 8 term, 4 lease in µs, 8 echo
const (
	wireVersion = 1
	beatHeader  = 62
	replySize   = 28
	// maxEntries keeps a beat below control.MaxPayload.
	maxEntries = 4096
)

var errWire = errors.New("not a beat or reply of this version")

func appendBeat(to []byte, b failover.Beat) []byte {
	to = append(to, wireVersion, 0, 0, 0)
	to = binary.BigEndian.AppendUint64(to, b.Incarnation)
	to = binary.BigEndian.AppendUint64(to, b.Number)
	to = binary.BigEndian.AppendUint64(to, b.Term)
	to = binary.BigEndian.AppendUint32(to, b.Version)
	to = binary.BigEndian.AppendUint32(to, uint32(min(b.Unled.Milliseconds(), math.MaxUint32)))
	to = binary.BigEndian.AppendUint64(to, uint64(b.Echo))
	underlay := [16]byte{}
	if b.Underlay.IsValid() {
		underlay = b.Underlay.As16()
	}
	to = append(to, underlay[:]...)
	to = binary.BigEndian.AppendUint16(to, uint16(len(b.States)))
	at := len(to)
	to = append(to, make([]byte, (len(b.States)+3)/4)...)
	for i, s := range b.States {
		var bits byte
		if s.Healthy {
			bits |= 1
		}
		if s.Attached {
			bits |= 2
		}
		to[at+i/4] |= bits << (i % 4 * 2)
	}
	return to
}

func parseBeat(p []byte) (failover.Beat, error) {
	if len(p) < beatHeader || p[0] != wireVersion {
		return failover.Beat{}, errWire
	}
	b := failover.Beat{
		Incarnation: binary.BigEndian.Uint64(p[4:]),
		Number:      binary.BigEndian.Uint64(p[12:]),
		Term:        binary.BigEndian.Uint64(p[20:]),
		Version:     binary.BigEndian.Uint32(p[28:]),
		Unled:       time.Duration(binary.BigEndian.Uint32(p[32:])) * time.Millisecond,
		Echo:        time.Duration(binary.BigEndian.Uint64(p[36:])),
	}
	if a := netip.AddrFrom16([16]byte(p[44:60])).Unmap(); !a.IsUnspecified() {
		b.Underlay = a
	}
	n := int(binary.BigEndian.Uint16(p[60:]))
	if n > maxEntries || len(p) != beatHeader+(n+3)/4 || b.Echo < 0 {
		return failover.Beat{}, errWire
	}
	for i := range n {
		bits := p[beatHeader+i/4] >> (i % 4 * 2)
		b.States = append(b.States, failover.EntryState{Healthy: bits&1 != 0, Attached: bits&2 != 0})
	}
	return b, nil
}

func appendReply(to []byte, r failover.Reply) []byte {
	var leads byte
	if r.Leads {
		leads = 1
	}
	to = append(to, wireVersion, leads, 0, 0)
	to = binary.BigEndian.AppendUint32(to, r.Version)
	to = binary.BigEndian.AppendUint64(to, r.Term)
	to = binary.BigEndian.AppendUint32(to, uint32(r.Lease/time.Microsecond))
	return binary.BigEndian.AppendUint64(to, uint64(r.Echo))
}

func parseReply(p []byte) (failover.Reply, error) {
	if len(p) != replySize || p[0] != wireVersion {
		return failover.Reply{}, errWire
	}
	r := failover.Reply{
		Leads:   p[1] == 1,
		Version: binary.BigEndian.Uint32(p[4:]),
		Term:    binary.BigEndian.Uint64(p[8:]),
		Lease:   time.Duration(binary.BigEndian.Uint32(p[16:])) * time.Microsecond,
		Echo:    time.Duration(binary.BigEndian.Uint64(p[20:])),
	}
	// A box that grants for longer than it may is broken; better no lease than one that nobody waits for.
	if r.Lease > maxLease || r.Echo < 0 {
		return failover.Reply{}, errWire
	}
	return r, nil
}
