package upload

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

const blockSize = manifest.BlockSize

// smallZero is the number of blocks up to which zeroes are kept block by block.
const smallZero = 16

// Batch collects groups.
type Batch struct {
	last    uint64
	bytes   int64
	records int
	blocks  map[uint64]*block
	zeros   []manifest.Range
}

// block is what the batch knows of a block: its content, or byte ranges over a content that
// is not in the batch.
type block struct {
	data    []byte
	patches []patch
	patched bool
}

type patch struct {
	off  int
	data []byte
}

// New returns an empty batch.
func New() *Batch { return &Batch{blocks: make(map[uint64]*block)} }

// Bytes is the length of the groups added, as they are in the log.
func (b *Batch) Bytes() int64 { return b.bytes }

// Records is the number of records added.
func (b *Batch) Records() int { return b.records }

// Last is the sequence number of the last group added, 0 for none.
func (b *Batch) Last() uint64 { return b.last }

// Add takes the group that follows. Its data is copied.
func (b *Batch) Add(g *log.Group) {
	b.last = g.Seq
	b.bytes += g.Len
	b.records += len(g.Records)
	for _, r := range g.Records {
		first := uint64(r.Off) / blockSize
		switch r.Kind {
		case log.Write:
			data := slices.Clone(r.Data)
			for i := uint64(0); len(data) > 0; i++ {
				b.blocks[first+i] = &block{data: data[:blockSize:blockSize]}
				data = data[blockSize:]
			}
		case log.Patch:
			b.patch(first, patch{int(r.Off % blockSize), slices.Clone(r.Data)})
		case log.Zero:
			b.zero(manifest.Range{First: first, Count: uint64(r.Len) / blockSize})
		}
	}
}

func (b *Batch) patch(no uint64, p patch) {
	k := b.blocks[no]
	if k == nil {
		k = new(block)
		if b.zeroed(no) {
			k.data = make([]byte, blockSize)
		}
		b.blocks[no] = k
	}
	k.patched = true
	if k.data == nil {
		k.patches = append(k.patches, p)
		return
	}
	copy(k.data[p.off:], p.data)
}

func (b *Batch) zeroed(no uint64) bool {
	for _, z := range b.zeros {
		if no >= z.First && no-z.First < z.Count {
			return true
		}
	}
	return false
}

func (b *Batch) zero(z manifest.Range) {
	if z.Count <= smallZero {
		for i := range z.Count {
			b.blocks[z.First+i] = &block{data: make([]byte, blockSize)}
		}
		return
	}
	if z.Count < uint64(len(b.blocks)) {
		for i := range z.Count {
			delete(b.blocks, z.First+i)
		}
	} else {
		maps.DeleteFunc(b.blocks, func(no uint64, _ *block) bool { return no >= z.First && no-z.First < z.Count })
	}
	b.zeros = append(b.zeros, z)
}

// Unresolved lists the blocks of which only byte ranges are known, in order.
func (b *Batch) Unresolved() []uint64 {
	var list []uint64
	for no, k := range b.blocks {
		if k.data == nil {
			list = append(list, no)
		}
	}
	slices.Sort(list)
	return list
}

// Resolve gives an unresolved block the content that it had before the batch.
func (b *Batch) Resolve(no uint64, base []byte) {
	k := b.blocks[no]
	k.data = slices.Clone(base[:blockSize])
	for _, p := range k.patches {
		copy(k.data[p.off:], p.data)
	}
	k.patches = nil
}

// Patched calls fn with every block that byte ranges went into and its content at the end of the batch.
func (b *Batch) Patched(fn func(no uint64, data []byte)) {
	for no, k := range b.blocks {
		if k.patched {
			fn(no, k.data)
		}
	}
}

// Pack makes the batch ready for the store, its frames in w. Every block must be resolved.
func (b *Batch) Pack(w *manifest.Writer) (*remote.Batch, error) {
	out := &remote.Batch{Seq: b.last, Zeros: b.zeros, Object: w}
	numbers := slices.Sorted(maps.Keys(b.blocks))
	cell := make([]byte, 0, manifest.CellSize)
	for i := 0; i < len(numbers); {
		at, mask := numbers[i]/manifest.BlocksPerCell, uint16(0)
		cell = cell[:0]
		for ; i < len(numbers) && numbers[i]/manifest.BlocksPerCell == at; i++ {
			no := numbers[i]
			data := b.blocks[no].data
			switch {
			case data == nil:
				return nil, fmt.Errorf("pack batch %d: block %d is not resolved", b.last, no)
			case isZero(data):
				out.Zeros = appendRange(out.Zeros, no)
			default:
				cell = append(cell, data...)
				mask |= 1 << (no % manifest.BlocksPerCell)
			}
		}
		if mask == 0 {
			continue
		}
		f, err := w.Add(at, mask, cell)
		if err != nil {
			return nil, fmt.Errorf("pack batch %d: %w", b.last, err)
		}
		out.Frames = append(out.Frames, f)
	}
	return out, nil
}

func appendRange(list []manifest.Range, no uint64) []manifest.Range {
	if n := len(list); n > 0 && list[n-1].First+list[n-1].Count == no {
		list[n-1].Count++
		return list
	}
	return append(list, manifest.Range{First: no, Count: 1})
}

var zeroBlock [blockSize]byte

func isZero(p []byte) bool { return string(p) == string(zeroBlock[:]) }
