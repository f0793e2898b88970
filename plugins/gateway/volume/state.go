package volume

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// A checkpoint's state: a header, known places between groups, patches, the index's dump, the blank chunks, and the patches'
// checksums.
//
//	0 version (2)  4 features (4)  8 size of the volume  16 tail  24 time of the oldest dirty write
//	32 places (4)  36 patches (4)
const (
	stateVersion  = 2
	stateFeatures = 0 // bits a reader must know
	stateHeader   = 40
	placeBytes    = 20
	patchBytes    = 20
	sumBytes      = 4
	maxPlaces     = 1024

	// sumsTag begins the checksums, one for each patch. Older releases do not write them and do not read so far.
	sumsTag = "psum"
)

var errState = errors.New("invalid checkpoint state")

// checkpointSize is the room that checkpoints of a volume on a disk of n bytes need at worst: every
// block of the log in a cell of its own. That is half a percent of the disk for each of the two.
func checkpointSize(n int64) int64 {
	blocks := n / blockSize
	return stateHeader + maxPlaces*placeBytes + min(maxPatches, blocks)*(patchBytes+sumBytes) + index.DumpMax(blocks)
}

// state is what stands before the index's dump.
type state struct {
	size    int64
	tail    int64 // when the dump began; no entry is older
	oldest  int64
	places  []log.Cursor
	patches []blockPatch
}

type blockPatch struct {
	block uint64
	patch
}

func (s *state) write(w io.Writer) error {
	le := binary.LittleEndian
	p := make([]byte, stateHeader, stateHeader+len(s.places)*placeBytes+len(s.patches)*patchBytes)
	le.PutUint16(p, stateVersion)
	le.PutUint32(p[4:], stateFeatures)
	le.PutUint64(p[8:], uint64(s.size))
	le.PutUint64(p[16:], uint64(s.tail))
	le.PutUint64(p[24:], uint64(s.oldest))
	le.PutUint32(p[32:], uint32(len(s.places)))
	le.PutUint32(p[36:], uint32(len(s.patches)))
	for _, c := range s.places {
		p = le.AppendUint64(p, uint64(c.Pos))
		p = le.AppendUint64(p, c.Seq)
		p = le.AppendUint32(p, c.Prev)
	}
	for _, q := range s.patches {
		p = le.AppendUint64(p, q.block)
		p = le.AppendUint64(p, uint64(q.pos))
		p = le.AppendUint16(p, q.off)
		p = le.AppendUint16(p, q.n)
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

func readState(r io.Reader) (*state, error) {
	le := binary.LittleEndian
	p := make([]byte, stateHeader)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	if v, f := le.Uint16(p), le.Uint32(p[4:]); v != stateVersion || f&^stateFeatures != 0 {
		return nil, fmt.Errorf("state version %d, features %#x: %w", v, f, log.ErrTooNew)
	}
	s := &state{size: int64(le.Uint64(p[8:])), tail: int64(le.Uint64(p[16:])), oldest: int64(le.Uint64(p[24:]))}
	places, patches := le.Uint32(p[32:]), le.Uint32(p[36:])
	if s.size <= 0 || s.size%blockSize != 0 || s.tail < 0 || places > maxPlaces {
		return nil, fmt.Errorf("size %d, tail %d, %d places: %w", s.size, s.tail, places, errState)
	}
	p = make([]byte, int(places)*placeBytes)
	if _, err := io.ReadFull(r, p); err != nil {
		return nil, fmt.Errorf("%w: %w", errState, err)
	}
	for range places {
		s.places = append(s.places, log.Cursor{Pos: int64(le.Uint64(p)), Seq: le.Uint64(p[8:]), Prev: le.Uint32(p[16:])})
		p = p[placeBytes:]
	}
	// The area bounds their number: what does not fit is no checkpoint.
	p = make([]byte, patchBytes)
	for range patches {
		if _, err := io.ReadFull(r, p); err != nil {
			return nil, fmt.Errorf("%w: %w", errState, err)
		}
		q := blockPatch{block: le.Uint64(p), patch: patch{pos: int64(le.Uint64(p[8:])), off: le.Uint16(p[16:]), n: le.Uint16(p[18:])}}
		if q.block >= uint64(s.size)/blockSize || q.pos < 0 || int64(q.off)+int64(q.n) > blockSize {
			return nil, fmt.Errorf("patch of block %d: %w", q.block, errState)
		}
		s.patches = append(s.patches, q)
	}
	return s, nil
}

func (s *state) writeSums(w io.Writer) error {
	p := append(make([]byte, 0, len(sumsTag)+len(s.patches)*sumBytes), sumsTag...)
	for _, q := range s.patches {
		p = binary.LittleEndian.AppendUint32(p, q.sum)
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// readSums gives the patches their checksums, if they are there.
func (s *state) readSums(r io.Reader) {
	p := make([]byte, len(sumsTag)+len(s.patches)*sumBytes)
	if _, err := io.ReadFull(r, p); err != nil || string(p[:len(sumsTag)]) != sumsTag {
		return
	}
	for i := range s.patches {
		s.patches[i].sum = binary.LittleEndian.Uint32(p[len(sumsTag)+i*sumBytes:])
	}
}

// writeEmptyState is for a new disk; blank tells of which chunks the store has nothing.
func writeEmptyState(w io.Writer, size int64, blank func(chunk uint64) bool) error {
	x, err := index.New(uint64(size) / blockSize)
	if err != nil {
		return err
	}
	if err := (&state{size: size}).write(w); err != nil {
		return err
	}
	if err := x.Dump(w, x.Blocks()); err != nil {
		return err
	}
	return newBlanks(chunksOf(size), blank).write(w)
}

// checkpoint makes the present index durable, so that a start replays only what is appended from
// now on. Only the cleaner calls it: while it runs the tail stands still.
func (v *Volume) checkpoint() error {
	v.mu.Lock()
	from := v.log.Written()
	s := &state{size: v.Size(), tail: v.log.Tail().Pos, oldest: v.up.oldestTime(), places: v.up.known(maxPlaces), patches: v.over.list()}
	// A start takes the volume as large as whichever says more, the state or the superblock; only what is behind both is gone
	// for good, and its zeroes with it.
	blocks := uint64(max(s.size, v.log.Superblock().UserSize)) / blockSize
	v.mu.Unlock()
	size := int64(0)
	err := v.log.Checkpoint(v.ctx, from, func(w io.Writer) error {
		// The rest may be newer than from: replaying over it changes nothing that does not change back.
		c := &counter{w: w}
		b := bufio.NewWriter(c)
		if err := s.write(b); err != nil {
			return err
		}
		if err := b.Flush(); err != nil {
			return err
		}
		err := v.index.Dump(c, blocks)
		if err == nil {
			err = v.blanksNow(s.size).write(c)
		}
		if err == nil {
			err = s.writeSums(c)
		}
		size = c.n
		return err
	})
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	v.clean.dump = size
	return nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
