package engine

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"
)

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
