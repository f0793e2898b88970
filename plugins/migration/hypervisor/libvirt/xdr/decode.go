package xdr

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

var (
	// ErrShort means that the message ends inside a value.
	ErrShort = errors.New("message ends early")
	// ErrLong means that a string or list is longer than its bound.
	ErrLong = errors.New("value is longer than it may be")
	// ErrBool means that a boolean is neither 0 nor 1.
	ErrBool = errors.New("boolean is neither 0 nor 1")
	// ErrRest means that bytes are left behind the last value.
	ErrRest = errors.New("message goes on after its last value")
)

// Decoder takes values off a message.
type Decoder struct {
	in  []byte
	err error
}

// NewDecoder reads in, which it does not copy or change.
func NewDecoder(in []byte) *Decoder { return &Decoder{in: in} }

// Err is the first error.
func (d *Decoder) Err() error { return d.err }

// End is the first error, or ErrRest if there is more than was taken.
func (d *Decoder) End() error {
	if d.err == nil && len(d.in) > 0 {
		return fmt.Errorf("decode: %w (%d bytes)", ErrRest, len(d.in))
	}
	return d.err
}

// Fail notes an error found by the caller, such as a union of unknown type.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err, d.in = fmt.Errorf("decode: %w", err), nil
	}
}

// take returns the next n bytes, or nil after an error.
func (d *Decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.in) {
		d.Fail(ErrShort)
		return nil
	}
	b := d.in[:n]
	d.in = d.in[n:]
	return b
}

// Uint32 takes an unsigned int.
func (d *Decoder) Uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Int32 takes an int or an enum.
func (d *Decoder) Int32() int32 { return int32(d.Uint32()) }

// Uint64 takes an unsigned hyper.
func (d *Decoder) Uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Double takes a double.
func (d *Decoder) Double() float64 { return math.Float64frombits(d.Uint64()) }

// Bool takes a boolean.
func (d *Decoder) Bool() bool {
	switch d.Uint32() {
	case 0:
		return false
	case 1:
		return true
	}
	d.Fail(ErrBool)
	return false
}

// Fixed fills v.
func (d *Decoder) Fixed(v []byte) {
	copy(v, d.take(len(v)))
	d.skip(len(v))
}

// Opaque takes data of at most limit bytes. The result is a copy.
func (d *Decoder) Opaque(limit int) []byte {
	b := d.counted(limit)
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}

// String takes a string of at most limit bytes.
func (d *Decoder) String(limit int) string { return string(d.counted(limit)) }

// Optional takes a string that may be absent: "".
func (d *Decoder) Optional(limit int) string {
	if !d.Bool() {
		return ""
	}
	return d.String(limit)
}

// Len takes the length of a list of at most limit elements, each of at least size bytes.
func (d *Decoder) Len(limit, size int) int {
	n := d.Uint32()
	if d.err != nil {
		return 0
	}
	if uint64(n) > uint64(limit) {
		d.Fail(fmt.Errorf("list of %d elements: %w (%d)", n, ErrLong, limit))
		return 0
	}
	// A length that the rest of the message cannot hold must not make the caller allocate.
	if int(n)*size > len(d.in) {
		d.Fail(ErrShort)
		return 0
	}
	return int(n)
}

// counted takes bytes with their length before them.
func (d *Decoder) counted(limit int) []byte {
	n := d.Uint32()
	if d.err == nil && uint64(n) > uint64(limit) {
		d.Fail(fmt.Errorf("%d bytes: %w (%d)", n, ErrLong, limit))
	}
	b := d.take(int(n))
	d.skip(int(n))
	return b
}

// skip passes over what fills n bytes up to a multiple of four. Its content does not matter.
func (d *Decoder) skip(n int) {
	if rest := -n & 3; rest != 0 && d.err == nil {
		d.take(rest)
	}
}
