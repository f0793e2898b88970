package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// The messages between client and control plane: little-endian, no padding, counts before what they count. A message
// with anything behind its end, or of another format, is refused.
//
//	request  format 1, 3 zero, wait 4, have {term 8, epoch 8}, walk 8, cursor {epoch 8, id 4}, known 8
//	update   format 1, flags 1, groups 2, gone 2, 2 zero, version {8, 8}, cursor {8, 4}, groups, gone {id 4, epoch 8}
//	group    id 4, changed 8, policy 1, addresses 1, members 2, name, addresses 16 each, members
//	member   slot 2, generation 4, weight 2, state 1, epoch 2, vni 4, mac 6, underlay 16, name
//	name     length 1, bytes
//	version  term 8, epoch 8
//	ack      version, outcomes 8 each: a datagram
//	word     version, lease 4 in ms: the answer to it
const (
	format      = 1
	requestSize = 52
	updateSize  = 36
	versionSize = 16

	flagFull, flagMore = 1, 2
)

var errCodec = errors.New("malformed message")

// Append encodes the request.
func (r Request) Append(b []byte) []byte {
	b = append(b, format, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, r.WaitMillis)
	b = r.Have.Append(b)
	b = binary.LittleEndian.AppendUint64(b, r.Walk)
	return binary.LittleEndian.AppendUint64(r.Cursor.append(b), r.Known)
}

// ParseRequest decodes what a client sent.
func ParseRequest(b []byte) (Request, error) {
	if len(b) != requestSize {
		return Request{}, fmt.Errorf("request of %d bytes: %w", len(b), errCodec)
	}
	d := decoder{b: b}
	d.header()
	r := Request{WaitMillis: d.u32(), Have: d.version(), Walk: d.u64(), Cursor: d.cursor(), Known: d.u64()}
	return r, d.end("request")
}

// Append encodes the version.
func (v Version) Append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, v.Term)
	return binary.LittleEndian.AppendUint64(b, v.Epoch)
}

// Outcomes counts a host's packets to groups by what became of them, in the order of OutcomeNames.
type Outcomes [outcomeCount]uint64

const outcomeCount = 10

// Ack is what a client tells with every acknowledgement.
type Ack struct {
	Applied  Version
	Outcomes Outcomes
}

// Append encodes the acknowledgement.
func (a Ack) Append(b []byte) []byte {
	b = a.Applied.Append(b)
	for _, n := range a.Outcomes {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	return b
}

// ParseAck decodes what a client sent.
func ParseAck(b []byte) (Ack, error) {
	d := decoder{b: b}
	a := Ack{Applied: d.version()}
	for i := range a.Outcomes {
		a.Outcomes[i] = d.u64()
	}
	return a, d.end("acknowledgement")
}

// Word is the control plane's answer to an acknowledgement: what is current, zero if it does not lead, and for how
// long that may be used, counted from the asking.
type Word struct {
	Current Version
	Lease   time.Duration // in whole milliseconds
}

// Append encodes the word.
func (w Word) Append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(w.Current.Append(b), uint32(w.Lease/time.Millisecond))
}

// ParseWord decodes what a control plane answered.
func ParseWord(b []byte) (Word, error) {
	d := decoder{b: b}
	w := Word{Current: d.version(), Lease: time.Duration(d.u32()) * time.Millisecond}
	return w, d.end("word")
}

func (c Cursor) append(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(b, c.Epoch), c.ID)
}

// Append encodes the update.
func (u Update) Append(b []byte) []byte {
	var flags byte
	if u.Full {
		flags |= flagFull
	}
	if u.More {
		flags |= flagMore
	}
	b = append(b, format, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(u.Groups)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(u.Gone)))
	b = append(b, 0, 0)
	b = u.Cursor.append(u.Version.Append(b))
	for _, g := range u.Groups {
		b = g.append(b)
	}
	for _, d := range u.Gone {
		b = binary.LittleEndian.AppendUint32(b, d.ID)
		b = binary.LittleEndian.AppendUint64(b, d.Epoch)
	}
	return b
}

// ParseUpdate decodes what a control plane sent. Every group in it could have come from a Store.
func ParseUpdate(b []byte) (Update, error) {
	d := decoder{b: b}
	if f := d.u8(); f != format {
		return Update{}, fmt.Errorf("update of format %d: %w", f, errCodec)
	}
	flags := d.u8()
	groups, gone := int(d.u16()), int(d.u16())
	if flags&^(flagFull|flagMore) != 0 || d.u16() != 0 || groups > MaxGroups || gone > maxGone {
		d.bad = true
	}
	u := Update{Full: flags&flagFull != 0, More: flags&flagMore != 0, Version: d.version(), Cursor: d.cursor()}
	for range groups {
		if d.bad {
			break
		}
		u.Groups = append(u.Groups, d.group())
	}
	for range gone {
		if d.bad {
			break
		}
		u.Gone = append(u.Gone, Gone{ID: d.u32(), Epoch: d.u64()})
	}
	return u, d.end("update")
}

func (g *Group) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, g.ID)
	b = binary.LittleEndian.AppendUint64(b, g.Changed)
	b = append(b, byte(g.Policy), byte(len(g.Addresses)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(g.Members)))
	b = appendName(b, g.Name)
	for _, a := range g.Addresses {
		b = appendAddress(b, a)
	}
	for _, m := range g.Members {
		b = binary.LittleEndian.AppendUint16(b, m.Slot)
		b = binary.LittleEndian.AppendUint32(b, m.Generation)
		b = binary.LittleEndian.AppendUint16(b, m.Weight)
		b = append(b, byte(m.State))
		b = binary.LittleEndian.AppendUint16(b, m.Epoch)
		b = binary.LittleEndian.AppendUint32(b, m.VNI)
		b = append(b, m.MAC[:]...)
		b = appendName(appendAddress(b, m.Underlay), m.Name)
	}
	return b
}

// groupSize is what append adds.
func groupSize(g *Group) int {
	n := 17 + len(g.Name) + 16*len(g.Addresses)
	for _, m := range g.Members {
		n += 38 + len(m.Name)
	}
	return n
}

func appendName(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

func appendAddress(b []byte, a netip.Addr) []byte {
	if !a.IsValid() { // a member that is attached nowhere
		return append(b, make([]byte, 16)...)
	}
	as16 := a.As16()
	return append(b, as16[:]...)
}

// decoder reads fields until one is missing or wrong; from then on it reads zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || len(d.b) < n {
		d.bad = true
		return make([]byte, n)
	}
	f := d.b[:n]
	d.b = d.b[n:]
	return f
}

func (d *decoder) u8() uint8   { return d.take(1)[0] }
func (d *decoder) u16() uint16 { return binary.LittleEndian.Uint16(d.take(2)) }
func (d *decoder) u32() uint32 { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.LittleEndian.Uint64(d.take(8)) }

func (d *decoder) header() {
	if h := d.take(4); h[0] != format || h[1]|h[2]|h[3] != 0 {
		d.bad = true
	}
}

func (d *decoder) version() Version { return Version{Term: d.u64(), Epoch: d.u64()} }
func (d *decoder) cursor() Cursor   { return Cursor{Epoch: d.u64(), ID: d.u32()} }
func (d *decoder) name() string     { return string(d.take(int(d.u8()))) }

func (d *decoder) address() netip.Addr {
	a := netip.AddrFrom16([16]byte(d.take(16))).Unmap()
	if a.IsUnspecified() && a.Is6() {
		return netip.Addr{}
	}
	return a
}

func (d *decoder) group() *Group {
	g := &Group{ID: d.u32(), Changed: d.u64(), Policy: Policy(d.u8())}
	addresses, members := int(d.u8()), int(d.u16())
	g.Name = d.name()
	if g.ID == 0 || g.Policy > Open || addresses == 0 || addresses > MaxAddresses || members > MaxMembers || checkName("group", g.Name) != nil {
		d.bad = true
	}
	for range addresses {
		if d.bad {
			return g
		}
		a := d.address()
		d.bad = d.bad || checkAddress("address", a) != nil
		g.Addresses = append(g.Addresses, a)
	}
	next := 0
	for range members {
		if d.bad {
			return g
		}
		m := d.member()
		// Slots ascend, so none is there twice.
		if int(m.Slot) < next || m.Slot >= MaxMembers || m.State > Down ||
			checkMember(m) != nil || m.State != Down && !m.Underlay.IsValid() {
			d.bad = true
		}
		next = int(m.Slot) + 1
		g.Members = append(g.Members, m)
	}
	return g
}

func (d *decoder) member() Member {
	m := Member{Slot: d.u16(), Generation: d.u32(), Weight: d.u16(), State: State(d.u8())}
	m.Epoch = d.u16()
	m.VNI = d.u32()
	m.MAC = [6]byte(d.take(6))
	m.Underlay = d.address()
	m.Name = d.name()
	return m
}

func (d *decoder) end(what string) error {
	if d.bad || len(d.b) != 0 {
		return fmt.Errorf("%s: %w", what, errCodec)
	}
	return nil
}
