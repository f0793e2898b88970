// Package report is what a host and a balancer tell each other about capacity: the payload of a control datagram of
// kind capacity and its reply. Transport, authentication and replay protection are package control's.
//
// A report names components; each entry says "of the connections that you sent me, the first Accepted are in my
// account, and you may send Limit more". The reply says how many the balancer has sent by now, which is what the
// next report's Accepted is taken from. Times are durations: the clocks of a host and a box have nothing to do with
// each other.
//
//	report  1 version, 1 flags, 2 entries, 8 incarnation, 8 sequence, 8 balancer's incarnation, then entries
//	entry   1 length of name, name, 1 flags, 4 limit, 8 accepted
//	reply   1 version, 1 flags, 2 entries, 8 incarnation, 8 sequence, 4 TTL in ms, then entries
//	entry   1 length of name, name, 1 status, 8 dispatched
//
// All numbers are big-endian. Unknown flags and trailing bytes are errors: a later version says so in its first byte.
package report

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

const (
	// Version is the one both sides speak.
	Version = 1
	// MaxName is the longest name of a component in bytes.
	MaxName = 63
	// MaxEntries bounds one datagram.
	MaxEntries = 64
	// MaxTTL is the longest time for which a report can hold.
	MaxTTL = 10 * time.Minute

	header, reportHeader, replyHeader = 20, 28, 24
)

// Report is a host's word to one balancer.
type Report struct {
	// Incarnation is drawn at random by each start of the reporter.
	Incarnation uint64
	// Sequence grows with each report of an incarnation.
	Sequence uint64
	// Balancer is the Incarnation of the balancer that the counts below belong to; 0 before its first reply.
	Balancer   uint64
	Components []Component
}

// Component is the capacity of one application component of the host.
type Component struct {
	Name string
	// Known is false in a first report: the host does not know yet how many connections it was sent, so that
	// Limit and Accepted mean nothing. The reply will tell it.
	Known bool
	// Limit is how many more connections the host takes from this balancer.
	Limit uint32
	// Accepted is how many of those dispatched by this balancer are already in the host's account.
	Accepted uint64
}

// Status is what a balancer makes of an entry.
type Status uint8

// Values of Status.
const (
	// Applied entries are in force for the TTL.
	Applied Status = iota
	// Unused components are no backend of this balancer.
	Unused
	// Rebase asks for a report with Known false: the host's numbers belong to another life of the balancer.
	Rebase
)

func (s Status) String() string {
	switch s {
	case Applied:
		return "applied"
	case Unused:
		return "unused"
	case Rebase:
		return "rebase"
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Reply is the balancer's answer to a report.
type Reply struct {
	// Incarnation changes when the balancer's counts began anew.
	Incarnation uint64
	// Sequence is that of the report it answers.
	Sequence uint64
	// TTL is how long the balancer believes a report; a host reports several times in it.
	TTL        time.Duration
	Components []Dispatched
}

// Dispatched is one entry of a reply.
type Dispatched struct {
	Name   string
	Status Status
	// Dispatched is how many connections the balancer has sent to the component, less those that never completed.
	Dispatched uint64
}

var errTruncated = errors.New("truncated")

// Append writes the report behind b.
func (r Report) Append(b []byte) ([]byte, error) {
	if err := checkCount(len(r.Components)); err != nil {
		return nil, fmt.Errorf("encode report: %w", err)
	}
	b = appendHeader(b, len(r.Components), r.Incarnation, r.Sequence)
	b = binary.BigEndian.AppendUint64(b, r.Balancer)
	var err error
	for _, c := range r.Components {
		if b, err = appendName(b, c.Name); err != nil {
			return nil, fmt.Errorf("encode report: %w", err)
		}
		var flags byte
		if c.Known {
			flags = 1
		}
		b = append(b, flags)
		b = binary.BigEndian.AppendUint32(b, c.Limit)
		b = binary.BigEndian.AppendUint64(b, c.Accepted)
	}
	return b, nil
}

// Parse reads a report.
func Parse(b []byte) (Report, error) {
	var r Report
	n, b, err := parseHeader(b, &r.Incarnation, &r.Sequence)
	if err != nil {
		return Report{}, fmt.Errorf("parse report: %w", err)
	}
	if len(b) < reportHeader-header {
		return Report{}, fmt.Errorf("parse report: %w", errTruncated)
	}
	r.Balancer, b = binary.BigEndian.Uint64(b), b[reportHeader-header:]
	r.Components = make([]Component, 0, n)
	for range n {
		var c Component
		if c.Name, b, err = parseName(b); err != nil {
			return Report{}, fmt.Errorf("parse report: %w", err)
		}
		if len(b) < 13 {
			return Report{}, fmt.Errorf("parse report: entry %q: %w", c.Name, errTruncated)
		}
		if b[0] > 1 {
			return Report{}, fmt.Errorf("parse report: entry %q: unknown flags %#x", c.Name, b[0])
		}
		c.Known = b[0] == 1
		c.Limit, c.Accepted = binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint64(b[5:])
		b = b[13:]
		r.Components = append(r.Components, c)
	}
	if len(b) != 0 {
		return Report{}, fmt.Errorf("parse report: %d bytes behind the last entry", len(b))
	}
	return r, nil
}

// Append writes the reply behind b.
func (r Reply) Append(b []byte) ([]byte, error) {
	if err := checkCount(len(r.Components)); err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	b = appendHeader(b, len(r.Components), r.Incarnation, r.Sequence)
	b = binary.BigEndian.AppendUint32(b, uint32(min(max(r.TTL, 0), MaxTTL)/time.Millisecond))
	var err error
	for _, c := range r.Components {
		if b, err = appendName(b, c.Name); err != nil {
			return nil, fmt.Errorf("encode reply: %w", err)
		}
		b = append(b, byte(c.Status))
		b = binary.BigEndian.AppendUint64(b, c.Dispatched)
	}
	return b, nil
}

// ParseReply reads a reply.
func ParseReply(b []byte) (Reply, error) {
	var r Reply
	n, b, err := parseHeader(b, &r.Incarnation, &r.Sequence)
	if err != nil {
		return Reply{}, fmt.Errorf("parse reply: %w", err)
	}
	if len(b) < replyHeader-header {
		return Reply{}, fmt.Errorf("parse reply: %w", errTruncated)
	}
	r.TTL = time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond
	if r.TTL > MaxTTL {
		return Reply{}, fmt.Errorf("parse reply: TTL %v is above %v", r.TTL, MaxTTL)
	}
	b = b[replyHeader-header:]
	r.Components = make([]Dispatched, 0, n)
	for range n {
		var c Dispatched
		if c.Name, b, err = parseName(b); err != nil {
			return Reply{}, fmt.Errorf("parse reply: %w", err)
		}
		if len(b) < 9 {
			return Reply{}, fmt.Errorf("parse reply: entry %q: %w", c.Name, errTruncated)
		}
		if c.Status = Status(b[0]); c.Status > Rebase {
			return Reply{}, fmt.Errorf("parse reply: entry %q: unknown %v", c.Name, c.Status)
		}
		c.Dispatched = binary.BigEndian.Uint64(b[1:])
		b = b[9:]
		r.Components = append(r.Components, c)
	}
	if len(b) != 0 {
		return Reply{}, fmt.Errorf("parse reply: %d bytes behind the last entry", len(b))
	}
	return r, nil
}

// EntrySize is what one component takes of a report, at most; Room is what a datagram of size has for entries.
func EntrySize(name string) int { return 1 + len(name) + 13 }

// Room is how many bytes of entries fit into a payload of size bytes.
func Room(size int) int { return size - reportHeader }

func appendHeader(b []byte, entries int, incarnation, sequence uint64) []byte {
	b = append(b, Version, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(entries))
	b = binary.BigEndian.AppendUint64(b, incarnation)
	return binary.BigEndian.AppendUint64(b, sequence)
}

func parseHeader(b []byte, incarnation, sequence *uint64) (entries int, rest []byte, err error) {
	if len(b) < header {
		return 0, nil, errTruncated
	}
	if b[0] != Version || b[1] != 0 {
		return 0, nil, fmt.Errorf("version %d with flags %#x is not version %d", b[0], b[1], Version)
	}
	entries = int(binary.BigEndian.Uint16(b[2:]))
	*incarnation, *sequence = binary.BigEndian.Uint64(b[4:]), binary.BigEndian.Uint64(b[12:])
	return entries, b[header:], checkCount(entries)
}

func checkCount(entries int) error {
	if entries > MaxEntries {
		return fmt.Errorf("%d entries are more than %d", entries, MaxEntries)
	}
	return nil
}

func appendName(b []byte, name string) ([]byte, error) {
	if len(name) == 0 || len(name) > MaxName {
		return nil, fmt.Errorf("name %q is not of 1 to %d bytes", name, MaxName)
	}
	return append(append(b, byte(len(name))), name...), nil
}

func parseName(b []byte) (string, []byte, error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return "", nil, errTruncated
	}
	n := int(b[0])
	if n == 0 || n > MaxName {
		return "", nil, fmt.Errorf("name of %d bytes is not of 1 to %d", n, MaxName)
	}
	return string(b[1 : 1+n]), b[1+n:], nil
}
