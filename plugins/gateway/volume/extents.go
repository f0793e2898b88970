package volume

import "context"

// State says what is known of a run of blocks.
type State uint8

// States are bits; a run may have several.
const (
	// Zero reads as zeroes.
	Zero State = 1 << iota
	// Local can be read without the store.
	Local
	// Dirty is not in the store yet.
	Dirty
	// Remote is in the store and not here.
	Remote
)

// Extent is a run of bytes in one state.
type Extent struct {
	Len   int64
	State State
}

// maxExtents bounds one answer.
const maxExtents = 4096

// Extents describes a range from its start; it may end early. With one set the first extent is enough.
func (v *Volume) Extents(off, n int64, one bool) []Extent {
	ctx, cancel := context.WithTimeout(v.ctx, statePatience)
	defer cancel()
	var list []Extent
	n = min(n, v.Size()-off)
	for end := off + n; off < end; {
		s, span := v.stateOf(ctx, uint64(off)/blockSize)
		next := min((off/blockSize+int64(span))*blockSize, end)
		switch {
		case len(list) > 0 && list[len(list)-1].State == s:
			list[len(list)-1].Len += next - off
		case len(list) == maxExtents, len(list) == 1 && one:
			return list
		default:
			list = append(list, Extent{Len: next - off, State: s})
		}
		off = next
	}
	return list
}

// stateOf returns a block's state and for how many blocks, at least, it holds.
func (v *Volume) stateOf(ctx context.Context, block uint64) (State, uint64) {
	e, span := v.index.Lookup(block)
	switch {
	case e.IsData() && v.isClean(e):
		return Local, span
	case e.IsData():
		return Local | Dirty, span
	case e.IsPatched():
		return Remote | Dirty, span
	case e.IsZero() && v.isClean(e):
		return Zero | Local, span
	case e.IsZero():
		return Zero | Local | Dirty, span
	}
	return v.remoteState(ctx, block, span)
}
