package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
)

// version is the first byte of every message. A receiver refuses any other: box and hosts are updated apart, and a
// message half understood could promise too much.
const version = 1

// Kinds of messages, the second byte.
const (
	kindWant uint8 = iota + 1
	kindGrant
	kindHold
	kindAck
	kindNudge
)

// ErrMessage is wrapped by every error of Decode.
var ErrMessage = errors.New("bad lease message")

// Nudge is sent unasked to consumers: something of the service changed, ask now.
type Nudge struct{ Service string }

// Encode makes a Want, Grant, Hold, Ack or Nudge into bytes. What is beyond the bounds is an error.
func Encode(message any) ([]byte, error) {
	w := &writer{b: make([]byte, 0, 256)}
	w.u8(version)
	switch m := message.(type) {
	case Want:
		w.u8(kindWant)
		w.want(m)
	case Grant:
		w.u8(kindGrant)
		w.grant(m)
	case Hold:
		w.u8(kindHold)
		w.hold(m)
	case Ack:
		w.u8(kindAck)
		w.ack(m)
	case Nudge:
		w.u8(kindNudge)
		w.name(m.Service)
	default:
		return nil, fmt.Errorf("encode %T: %w", message, ErrMessage)
	}
	if w.err == nil && len(w.b) > MaxMessage {
		w.err = fmt.Errorf("%w: %d bytes", ErrMessage, len(w.b))
	}
	return w.b, w.err
}

// Decode is the inverse of Encode. It refuses every other form of the same content, so that Encode(Decode(b)) is b.
func Decode(b []byte) (any, error) {
	r := &reader{b: b}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrMessage, len(b))
	}
	if v := r.u8(); r.err == nil && v != version {
		return nil, fmt.Errorf("%w: version %d, this is %d: update the older side", ErrMessage, v, version)
	}
	var m any
	switch kind := r.u8(); kind {
	case kindWant:
		m = r.want()
	case kindGrant:
		m = r.grant()
	case kindHold:
		m = r.hold()
	case kindAck:
		m = r.ack()
	case kindNudge:
		m = Nudge{Service: r.name()}
	default:
		r.fail("kind")
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("end")
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

func (w *writer) want(m Want) {
	w.u64(m.Run)
	w.u64(m.Seq)
	w.name(m.Service)
	w.count(int(m.Leases))
	w.count(len(m.Held))
	for _, h := range m.Held {
		w.name(h.Producer)
		w.u64(h.Token)
	}
	w.count(len(m.Failed))
	for _, p := range m.Failed {
		w.name(p)
	}
}

func (r *reader) want() (m Want) {
	m.Run, m.Seq, m.Service, m.Leases = r.u64(), r.u64(), r.name(), uint8(r.count(MaxLeases))
	for range r.count(MaxLeases) {
		m.Held = append(m.Held, Held{Producer: r.name(), Token: r.u64()})
	}
	for range r.count(MaxLeases) {
		m.Failed = append(m.Failed, r.name())
	}
	return m
}

func (w *writer) grant(m Grant) {
	w.u64(m.Seq)
	w.name(m.Service)
	w.u8(uint8(m.Status))
	w.duration(m.TTL)
	w.count(len(m.Addresses))
	for _, a := range m.Addresses {
		w.address(a)
	}
	w.count(len(m.Leases))
	for _, l := range m.Leases {
		w.name(l.Producer)
		w.u64(l.Token)
		w.u64(l.Epoch)
		w.duration(l.TTL)
		w.flag(l.Draining)
		w.target(l.Target)
	}
}

func (r *reader) grant() (m Grant) {
	m.Seq, m.Service, m.Status, m.TTL = r.u64(), r.name(), Status(r.enum(uint8(Refused))), r.duration()
	for range r.count(2) {
		m.Addresses = append(m.Addresses, r.address())
	}
	for range r.count(MaxLeases) {
		m.Leases = append(m.Leases, Lease{Producer: r.name(), Token: r.u64(), Epoch: r.u64(), TTL: r.duration(), Draining: r.flag(), Target: r.target()})
	}
	return m
}

func (w *writer) hold(m Hold) {
	w.u64(m.Run)
	w.u64(m.Seq)
	w.stamp(m.Echo)
	w.name(m.Service)
	w.name(m.Producer)
	w.u64(m.Epoch)
	w.u32(m.Share)
	w.flag(m.Keep)
	w.u8(uint8(m.State))
	w.target(m.Target)
}

func (r *reader) hold() Hold {
	return Hold{
		Run: r.u64(), Seq: r.u64(), Echo: r.stamp(), Service: r.name(), Producer: r.name(), Epoch: r.u64(),
		Share: r.u32(), Keep: r.flag(), State: State(r.enum(uint8(Gone))), Target: r.target(),
	}
}

func (w *writer) ack(m Ack) {
	w.u64(m.Seq)
	w.stamp(m.Stamp)
	w.name(m.Service)
	w.name(m.Producer)
	w.u8(uint8(m.Status))
	w.duration(m.TTL)
	w.u64(m.Highest)
	w.text(m.Holder)
	w.u32(m.VNI)
	w.u32(m.Quota)
	w.u32(m.Share)
	w.u32(m.Leased)
}

func (r *reader) ack() Ack {
	return Ack{
		Seq: r.u64(), Stamp: r.stamp(), Service: r.name(), Producer: r.name(), Status: Status(r.enum(uint8(Refused))),
		TTL: r.duration(), Highest: r.u64(), Holder: r.text(), VNI: r.vni(), Quota: r.u32(), Share: r.u32(), Leased: r.u32(),
	}
}

// writer appends; the first value out of bounds is kept as its error.
type writer struct {
	b   []byte
	err error
}

func (w *writer) fail(what string) {
	if w.err == nil {
		w.err = fmt.Errorf("%w: %s", ErrMessage, what)
	}
}

func (w *writer) u8(v uint8)   { w.b = append(w.b, v) }
func (w *writer) u32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *writer) u64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }

func (w *writer) flag(v bool) {
	if v {
		w.u8(1)
	} else {
		w.u8(0)
	}
}

func (w *writer) count(n int) {
	if n > MaxLeases {
		w.fail("too many entries")
	}
	w.u8(uint8(n))
}

func (w *writer) name(s string) {
	if s == "" {
		w.fail("empty name")
	}
	w.text(s)
}

func (w *writer) text(s string) {
	if len(s) > MaxName {
		w.fail("name too long")
	}
	if !ValidName(s) {
		w.fail("name")
	}
	w.u8(uint8(len(s)))
	w.b = append(w.b, s...)
}

// duration is in microseconds: finer than any clock comparison needs, and an hour fits in 32 bits.
func (w *writer) duration(d time.Duration) {
	if d < 0 || d > MaxTTL {
		w.fail("duration")
	}
	w.u32(uint32(d / time.Microsecond))
}

func (w *writer) stamp(s Stamp) {
	w.u64(s.Run)
	w.u64(uint64(s.Expires))
}

func (w *writer) address(a netip.Addr) {
	if !a.IsValid() || a.Zone() != "" {
		w.fail("address")
		return
	}
	b := a.As16()
	w.b = append(w.b, b[:]...)
}

func (w *writer) target(t Target) {
	w.address(t.Host)
	w.u32(t.VNI)
	w.b = append(w.b, t.MAC[:]...)
}

// reader takes from the front; after the first error everything it returns is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMessage, what)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.fail("truncated")
		return make([]byte, n)
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

func (r *reader) enum(last uint8) uint8 {
	v := r.u8()
	if v > last {
		r.fail("unknown value")
		return 0
	}
	return v
}

func (r *reader) flag() bool { return r.enum(1) == 1 }

func (r *reader) count(most int) int {
	n := int(r.u8())
	if n > most {
		r.fail("too many entries")
		return 0
	}
	return n
}

func (r *reader) name() string {
	s := r.text()
	if s == "" {
		r.fail("empty name")
	}
	return s
}

func (r *reader) text() string {
	n := int(r.u8())
	if n > MaxName {
		r.fail("name too long")
		return ""
	}
	s := string(r.take(n))
	if !ValidName(s) {
		r.fail("name")
		return ""
	}
	return s
}

// ValidName says whether a name consists of a-z, 0-9 and - only, as names of hosts do. Names that hosts send are shown on
// terminals and are part of keys.
func ValidName(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func (r *reader) duration() time.Duration {
	d := time.Duration(r.u32()) * time.Microsecond
	if d > MaxTTL {
		r.fail("duration")
		return 0
	}
	return d
}

func (r *reader) stamp() Stamp {
	s := Stamp{Run: r.u64()}
	v := r.u64()
	if v > math.MaxInt64 {
		r.fail("stamp")
		return Stamp{}
	}
	s.Expires = time.Duration(v)
	return s
}

func (r *reader) address() netip.Addr { return netip.AddrFrom16([16]byte(r.take(16))).Unmap() }

func (r *reader) vni() uint32 {
	v := r.u32()
	if v > 1<<24-1 {
		r.fail("VNI")
		return 0
	}
	return v
}

func (r *reader) target() (t Target) {
	t.Host, t.VNI = r.address(), r.vni()
	t.MAC = [6]byte(r.take(6))
	return t
}
