package xdr

import (
	"encoding/binary"
	"math"
)

// Encoder appends values to a message. The zero value is ready.
type Encoder struct{ out []byte }

// Bytes is what was encoded.
func (e *Encoder) Bytes() []byte { return e.out }

// Uint32 appends an unsigned int.
func (e *Encoder) Uint32(v uint32) { e.out = binary.BigEndian.AppendUint32(e.out, v) }

// Int32 appends an int or an enum.
func (e *Encoder) Int32(v int32) { e.Uint32(uint32(v)) }

// Uint64 appends an unsigned hyper.
func (e *Encoder) Uint64(v uint64) { e.out = binary.BigEndian.AppendUint64(e.out, v) }

// Double appends a double.
func (e *Encoder) Double(v float64) { e.Uint64(math.Float64bits(v)) }

// Bool appends a boolean.
func (e *Encoder) Bool(v bool) {
	if v {
		e.Uint32(1)
		return
	}
	e.Uint32(0)
}

// Fixed appends opaque data whose length both sides know.
func (e *Encoder) Fixed(v []byte) {
	e.out = append(e.out, v...)
	e.pad(len(v))
}

// Opaque appends data with its length.
func (e *Encoder) Opaque(v []byte) {
	e.Uint32(uint32(len(v)))
	e.Fixed(v)
}

// String appends a string that must be there.
func (e *Encoder) String(v string) {
	e.Uint32(uint32(len(v)))
	e.out = append(e.out, v...)
	e.pad(len(v))
}

// Optional appends a string that may be absent, which "" means.
func (e *Encoder) Optional(v string) {
	e.Bool(v != "")
	if v != "" {
		e.String(v)
	}
}

// pad fills up to a multiple of four.
func (e *Encoder) pad(n int) {
	for ; n%4 != 0; n++ {
		e.out = append(e.out, 0)
	}
}
