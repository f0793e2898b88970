package flowsync

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Version both sides speak; it is the first byte of every message.
const Version = 1

// Bounds of one message.
const (
	// MaxBatch is how many records a datagram of 1,200 bytes holds, were they all IPv6.
	MaxBatch = 24
	// MaxPage bounds the entries of a page: 1.3 MB.
	MaxPage = 65536
	// MaxBackends bounds the names of a page.
	MaxBackends = 4096
)

// Record is one flow that has become established or ended.
type Record struct {
	Ended         bool
	Protocol      uint8
	Client, Local netip.AddrPort
	// Backend is the key of its name: maglev.Key.
	Backend uint64
}

var errTruncated = errors.New("truncated")

// AppendBatch writes records behind b: version, count, then each of
// 1 flags (bit 0 IPv6, bit 1 ended), 1 protocol, client, client's port, local, local port, 8 backend.
func AppendBatch(b []byte, records []Record) []byte {
	b = append(b, Version, byte(len(records)))
	for _, r := range records {
		flags := byte(0)
		if r.Client.Addr().Is6() {
			flags |= 1
		}
		if r.Ended {
			flags |= 2
		}
		b = append(b, flags, r.Protocol)
		b = appendAddrPort(b, r.Client)
		b = appendAddrPort(b, r.Local)
		b = binary.BigEndian.AppendUint64(b, r.Backend)
	}
	return b
}

// ParseBatch reads records.
func ParseBatch(b []byte) ([]Record, error) {
	if len(b) < 2 || b[0] != Version {
		return nil, fmt.Errorf("parse batch: not of version %d", Version)
	}
	n := int(b[1])
	if n > MaxBatch {
		return nil, fmt.Errorf("parse batch: %d records are more than %d", n, MaxBatch)
	}
	out := make([]Record, 0, n)
	b = b[2:]
	for range n {
		if len(b) < 2 {
			return nil, fmt.Errorf("parse batch: %w", errTruncated)
		}
		if b[0] > 3 {
			return nil, fmt.Errorf("parse batch: unknown flags %#x", b[0])
		}
		r := Record{Ended: b[0]&2 != 0, Protocol: b[1]}
		size := 6
		if b[0]&1 != 0 {
			size = 18
		}
		if b = b[2:]; len(b) < 2*size+8 {
			return nil, fmt.Errorf("parse batch: %w", errTruncated)
		}
		r.Client, r.Local = addrPort(b[:size]), addrPort(b[size:2*size])
		r.Backend = binary.BigEndian.Uint64(b[2*size:])
		b = b[2*size+8:]
		if r.Client.Addr().Is4In6() || r.Local.Addr().Is4In6() {
			return nil, errors.New("parse batch: IPv4 address in an IPv6 record")
		}
		out = append(out, r)
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("parse batch: %d bytes behind the last record", len(b))
	}
	return out, nil
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	b = append(b, a.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

func addrPort(b []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b[:len(b)-2]) // four or sixteen by its caller
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[len(b)-2:]))
}

// Entry is one entry of a flow table.
type Entry struct {
	Line        uint32
	Fingerprint uint64
	Backend     uint16 // index in Page.Backends
	State       uint8
	Idle        time.Duration // in whole seconds on the wire
}

// Page is a part of a table's entries.
type Page struct {
	// Next is the line to go on from; 0 when this was the last page.
	Next     uint32
	Backends []uint64
	Entries  []Entry
}

const entrySize = 4 + 8 + 2 + 1 + 4

// Append writes the page behind b.
func (p Page) Append(b []byte) []byte {
	b = append(b, Version)
	b = binary.BigEndian.AppendUint32(b, p.Next)
	b = binary.BigEndian.AppendUint16(b, uint16(len(p.Backends)))
	for _, k := range p.Backends {
		b = binary.BigEndian.AppendUint64(b, k)
	}
	for _, e := range p.Entries {
		b = binary.BigEndian.AppendUint32(b, e.Line)
		b = binary.BigEndian.AppendUint64(b, e.Fingerprint)
		b = binary.BigEndian.AppendUint16(b, e.Backend)
		b = append(b, e.State)
		b = binary.BigEndian.AppendUint32(b, uint32(min(max(e.Idle, 0)/time.Second, 1<<32-1)))
	}
	return b
}

// ParsePage reads a page.
func ParsePage(b []byte) (Page, error) {
	if len(b) < 7 || b[0] != Version {
		return Page{}, fmt.Errorf("parse page: not of version %d", Version)
	}
	p := Page{Next: binary.BigEndian.Uint32(b[1:])}
	n := int(binary.BigEndian.Uint16(b[5:]))
	b = b[7:]
	if n > MaxBackends || len(b) < 8*n || (len(b)-8*n)%entrySize != 0 || (len(b)-8*n)/entrySize > MaxPage {
		return Page{}, fmt.Errorf("parse page: %d bytes with %d backends", len(b), n)
	}
	for i := range n {
		p.Backends = append(p.Backends, binary.BigEndian.Uint64(b[8*i:]))
	}
	for b = b[8*n:]; len(b) > 0; b = b[entrySize:] {
		e := Entry{
			Line: binary.BigEndian.Uint32(b), Fingerprint: binary.BigEndian.Uint64(b[4:]), Backend: binary.BigEndian.Uint16(b[12:]),
			State: b[14], Idle: time.Duration(binary.BigEndian.Uint32(b[15:])) * time.Second,
		}
		if int(e.Backend) >= n {
			return Page{}, fmt.Errorf("parse page: entry of backend %d of %d", e.Backend, n)
		}
		p.Entries = append(p.Entries, e)
	}
	return p, nil
}
