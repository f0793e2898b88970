package upload

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// Pack makes the batch ready for the store, its frames in w. Every block must be resolved; nothing can
// be added afterwards.
func (b *Batch) Pack(w *manifest.Writer) (*remote.Batch, error) {
	out := &remote.Batch{Seq: b.last, Zeros: slices.Clone(b.zeros), Object: w}
	slices.SortFunc(b.entries, func(x, y entry) int { return cmp.Compare(x.block, y.block) })
	var cell [manifest.CellSize]byte
	for rest := b.entries; len(rest) > 0; {
		at := rest[0].block / manifest.BlocksPerCell
		n := 1
		for n < len(rest) && rest[n].block/manifest.BlocksPerCell == at {
			n++
		}
		mask, data, err := b.gather(rest[:n], cell[:0], out)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
		if mask == 0 {
			continue
		}
		f, err := w.Add(at, mask, data)
		if err != nil {
			return nil, fmt.Errorf("pack batch %d: %w", b.last, err)
		}
		out.Frames = append(out.Frames, f)
	}
	return out, nil
}

// gather puts the blocks of one cell one after the other into buf, and those that are zero into out.
func (b *Batch) gather(entries []entry, buf []byte, out *remote.Batch) (mask uint16, data []byte, err error) {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.at == unknown:
			return 0, nil, fmt.Errorf("pack batch %d: block %d is not resolved", b.last, e.block)
		case e.at == dropped:
		case e.at == zeroed, isZero(b.content(e)):
			out.Zeros = appendRange(out.Zeros, e.block)
		default:
			buf = append(buf, b.content(e)...)
			mask |= 1 << (e.block % manifest.BlocksPerCell)
		}
	}
	return mask, buf, nil
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
