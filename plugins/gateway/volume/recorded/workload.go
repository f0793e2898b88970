package recorded

import (
	"encoding/binary"
	"math/rand/v2"
)

// The recorded volume and its disk, in bytes.
const (
	VolumeName = "recorded"
	VolumeSize = 8 << 20
	DiskSize   = 96 << 20

	block    = 4096
	maxWrite = 64 << 10
)

// Op is one request of the client. Number i of a seed is always the same.
type Op struct {
	Off, Len int64
	Zero     bool // else a write of the op's own pattern
	Flush    bool // the client flushes after it
}

// Workload makes the ops of a seed, in order.
type Workload struct {
	src *rand.PCG
	r   *rand.Rand
}

// NewWorkload starts at the first op.
func NewWorkload(seed uint64) *Workload {
	src := rand.NewPCG(seed, 40)
	return &Workload{src: src, r: rand.New(src)}
}

// Next op. One of four is not whole blocks, one of ten zeroes, one of five is followed by a flush.
func (w *Workload) Next() Op {
	o := Op{Off: w.r.Int64N(VolumeSize), Len: 1 + w.r.Int64N(maxWrite), Zero: w.r.IntN(10) == 0, Flush: w.r.IntN(5) == 0}
	if w.r.IntN(4) > 0 {
		o.Off, o.Len = o.Off&^(block-1), (o.Len+block-1)&^(block-1)
	}
	o.Len = min(o.Len, VolumeSize-o.Off)
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

// Apply changes a copy of the volume as op number i does.
func (o Op) Apply(volume []byte, i int) { o.Fill(volume[o.Off:o.Off+o.Len], i) }

func (w *Workload) clone() *Workload {
	src := *w.src
	return &Workload{src: &src, r: rand.New(&src)}
}
