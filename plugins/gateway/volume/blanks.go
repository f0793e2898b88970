package volume

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
)

// blanks are the chunks that read as zeroes where the index knows nothing: the store held nothing of them when the last
// checkpoint was made, and nothing has been appended for them since. They answer in place of the manifest until that has
// come, so that a start without the store does not wait for it to read what was never written. One bit a chunk; nil
// knows of none.
type blanks []atomic.Uint64

// newBlanks asks about every chunk.
func newBlanks(chunks uint64, blank func(chunk uint64) bool) blanks {
	b := make(blanks, (chunks+63)/64)
	for c := range chunks {
		if blank(c) {
			b[c/64].Or(1 << (c % 64))
		}
	}
	return b
}

func (b blanks) has(chunk uint64) bool {
	return chunk/64 < uint64(len(b)) && b[chunk/64].Load()&(1<<(chunk%64)) != 0
}

// In a checkpoint they stand behind the index's dump, where releases that do not know them have stopped reading:
//
//	0 "blnk"   number of runs (uvarint)   and of each: chunks to it from the one before, chunks in it (uvarint)
const (
	blanksTag = "blnk"
	// maxBlankRuns bounds what it takes; of chunks behind the last run nothing is known.
	maxBlankRuns = 2048
)

func (b blanks) write(w io.Writer) error {
	var runs []uint64 // gap, length, gap, length, ...
	end := uint64(0)
	chunks := uint64(len(b)) * 64
	for c := uint64(0); c < chunks && len(runs) < 2*maxBlankRuns; {
		if !b.has(c) {
			c++
			continue
		}
		first := c
		for c < chunks && b.has(c) {
			c++
		}
		runs = append(runs, first-end, c-first)
		end = c
	}
	p := binary.AppendUvarint([]byte(blanksTag), uint64(len(runs)/2))
	for _, n := range runs {
		p = binary.AppendUvarint(p, n)
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// readBlanks reads what stands behind the index's dump. Where it makes no sense – another release may have put
// something else there – nothing is known, and the store is asked.
func readBlanks(r *bufio.Reader, chunks uint64) blanks {
	tag := make([]byte, len(blanksTag))
	if _, err := io.ReadFull(r, tag); err != nil || string(tag) != blanksTag {
		return nil
	}
	runs, err := binary.ReadUvarint(r)
	if err != nil || runs > maxBlankRuns {
		return nil
	}
	b := make(blanks, (chunks+63)/64)
	for at := uint64(0); runs > 0; runs-- {
		gap, err1 := binary.ReadUvarint(r)
		n, err2 := binary.ReadUvarint(r)
		if err1 != nil || err2 != nil || gap > chunks-at || n > chunks-at-gap {
			return nil
		}
		for at += gap; n > 0; at, n = at+1, n-1 {
			b[at/64].Or(1 << (at % 64))
		}
	}
	return b
}

// unblank is called before something is appended for chunks: once that has left the log only the store knows of it, so
// they are not blank any more. The rest of them still is, which the index remembers for now.
func (v *Volume) unblank(first, last uint64) {
	for c := first; c <= last && c/64 < uint64(len(v.blank)); c++ {
		if !v.blank.has(c) {
			continue
		}
		start := c * chunkBlocks
		if e, span := v.index.Lookup(start); e == 0 && span >= chunkBlocks && !v.remoteLoaded() {
			v.index.Fill(start, chunkBlocks, index.Nothing) // a whole chunk takes no memory
			v.noted++                                       // the cleaner makes it forget when it is much
		}
		v.blank[c/64].And(^(uint64(1) << (c % 64)))
	}
}

// remoteLoaded is false during recovery, too.
func (v *Volume) remoteLoaded() bool { return v.remote != nil && v.remote.Loaded() }

// blanksNow are those of a checkpoint that is made now, of a volume of size bytes. What is in the log for a chunk that is
// not among them is in the index, or will be replayed.
func (v *Volume) blanksNow(size int64) blanks {
	if !v.remote.Loaded() {
		return v.blank
	}
	return newBlanks(chunksOf(size), func(c uint64) bool {
		// The index first: what leaves it in between is in the manifest before.
		e, span := v.index.Lookup(c * chunkBlocks)
		return e == 0 && span >= chunkBlocks && !v.remote.MayHold(c)
	})
}

func chunksOf(size int64) uint64 { return (uint64(size)/blockSize + chunkBlocks - 1) / chunkBlocks }
