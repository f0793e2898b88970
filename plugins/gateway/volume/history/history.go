// Package history is for tests that interrupt a volume: a client whose requests are the same for a seed, and a judge of what
// is there after an interruption.
//
// The judge accepts the volume after any number of the client's requests that is at least the number a flush has covered;
// of the last of them any blocks may be old, for requests of more than a block are not atomic. Everything else is a loss
// (invariants X2, for a client with one request at a time).
package history

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

const (
	block  = 4096
	sector = 512
	// MaxLen of an op, in bytes.
	MaxLen = 64<<10 + block
)

// Op is one request of the client.
type Op struct {
	Off, Len int64
	Zero     bool // else a write of the op's own pattern
	Flush    bool // the client flushes after it
}

// Ops makes the requests of a seed to a volume, in order.
type Ops struct {
	size int64
	src  *rand.PCG
	r    *rand.Rand
}

// NewOps starts at the first op.
func NewOps(seed uint64, size int64) *Ops { return newOps(rand.NewPCG(seed, 40), size) }

func newOps(src *rand.PCG, size int64) *Ops { return &Ops{size: size, src: src, r: rand.New(src)} }

func (s *Ops) clone() *Ops {
	src := *s.src
	return newOps(&src, s.size)
}

// Next op, in whole sectors of 512 bytes. One of four is not whole blocks, one of ten zeroes, one of five is followed by a flush.
func (s *Ops) Next() Op {
	o := Op{Off: s.r.Int64N(s.size/sector) * sector, Len: (1 + s.r.Int64N((MaxLen-block)/sector)) * sector, Zero: s.r.IntN(10) == 0, Flush: s.r.IntN(5) == 0}
	if s.r.IntN(4) > 0 {
		o.Off, o.Len = o.Off&^(block-1), (o.Len+block-1)&^(block-1)
	}
	o.Len = min(o.Len, s.size-o.Off)
	return o
}

// Fill writes what op number i leaves in its range into p.
func (o Op) Fill(p []byte, i int) {
	if o.Zero {
		clear(p)
		return
	}
	var word [8]byte
	binary.LittleEndian.PutUint64(word[:], uint64(i)<<20|0x5a5a5)
	for at := range p {
		// By place on the volume, so that data at a wrong place is noticed.
		p[at] = word[(o.Off+int64(at))%8] ^ byte((o.Off+int64(at))/block)
	}
}

// apply changes a copy of the volume as op number i does.
func (o Op) apply(volume []byte, i int) { o.Fill(volume[o.Off:o.Off+o.Len], i) }

// Judge knows a volume after the ops so far.
type Judge struct {
	ops    *Ops
	done   int
	volume []byte
}

// NewJudge knows the volume as it was before the first op of the seed. It keeps base.
func NewJudge(seed uint64, base []byte) *Judge {
	return &Judge{ops: NewOps(seed, int64(len(base))), volume: base}
}

func (j *Judge) next() (Op, int) {
	j.done++
	return j.ops.Next(), j.done
}

// ahead bounds how many ops a client can have sent since the last flush it heard of.
const ahead = 400

// Match returns nil if found is the volume as it may be when a flush has covered the first acked ops. acked never goes back.
func (j *Judge) Match(found []byte, acked int) error {
	if len(found) != len(j.volume) {
		return fmt.Errorf("%d bytes of %d", len(found), len(j.volume))
	}
	for j.done < acked {
		o, i := j.next()
		o.apply(j.volume, i)
	}
	if bytes.Equal(found, j.volume) {
		return nil
	}
	// The ops after acked are tried on a copy: the next flush may be known to have covered fewer.
	look := &Judge{ops: j.ops.clone(), done: j.done, volume: bytes.Clone(j.volume)}
	for range ahead {
		o, i := look.next()
		before := bytes.Clone(look.volume[o.Off&^(block-1) : min((o.Off+o.Len+block-1)&^(block-1), int64(len(found)))])
		o.apply(look.volume, i)
		if bytes.Equal(found, look.volume) || torn(found, look.volume, before, o) {
			return nil
		}
	}
	for at := range found {
		if found[at] != j.volume[at] {
			return fmt.Errorf("no prefix of %d or more ops: block %d differs from what was acknowledged", acked, at/block)
		}
	}
	return nil
}

// torn reports whether found is after, but for blocks of the op that are still as before.
func torn(found, after, before []byte, o Op) bool {
	first := o.Off &^ (block - 1)
	if !bytes.Equal(found[:first], after[:first]) || !bytes.Equal(found[first+int64(len(before)):], after[first+int64(len(before)):]) {
		return false
	}
	for at := int64(0); at < int64(len(before)); at += block {
		got := found[first+at : first+at+block]
		if !bytes.Equal(got, before[at:at+block]) && !bytes.Equal(got, after[first+at:first+at+block]) {
			return false
		}
	}
	return true
}
