package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// Digest is a SHA-256 value; the zero Digest stands for none.
type Digest [sha256.Size]byte

// Sum is the Digest of b.
func Sum(b []byte) Digest { return sha256.Sum256(b) }

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is enough of d for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// writer appends fields; it remembers the first value that has no encoding.
type writer struct {
	b   []byte
	err error
}

func (w *writer) u8(v uint8)      { w.b = append(w.b, v) }
func (w *writer) u64(v uint64)    { w.b = binary.LittleEndian.AppendUint64(w.b, v) }
func (w *writer) digest(d Digest) { w.b = append(w.b, d[:]...) }

func (w *writer) text(s string) {
	if len(s) > math.MaxUint8 {
		w.fail("string of %d bytes, at most %d", len(s), math.MaxUint8)
		return
	}
	w.b = append(append(w.b, byte(len(s))), s...)
}

func (w *writer) count(n, limit int) {
	if n > limit {
		w.fail("list of %d, at most %d", n, limit)
		return
	}
	w.b = binary.LittleEndian.AppendUint16(w.b, uint16(n))
}

func (w *writer) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("encode: "+format, args...)
	}
}

// reader takes fields off b; after the first error it returns zeros and loops end at once.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err == nil && len(r.b) < n {
		r.err = fmt.Errorf("%w: payload ends early", ErrCorrupt)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8    { return r.take(1)[0] }
func (r *reader) u64() uint64  { return binary.LittleEndian.Uint64(r.take(8)) }
func (r *reader) text() string { return string(r.take(int(r.u8()))) }

func (r *reader) digest() (d Digest) {
	copy(d[:], r.take(len(d)))
	return d
}

func (r *reader) count(limit int) int {
	n := int(binary.LittleEndian.Uint16(r.take(2)))
	if n > limit {
		r.fail("list of %d, at most %d", n, limit)
	}
	if r.err != nil {
		return 0
	}
	return n
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
	}
}

// end makes leftovers an error, so that there is one encoding only.
func (r *reader) end() error {
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	return r.err
}
