package engine

import (
	"errors"
	"fmt"
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
