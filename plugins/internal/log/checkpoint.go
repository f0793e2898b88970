package log

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	checkpointMagic = 0x32434352 // "RCC2"
	// pieceSize is how the state of a checkpoint is read and written.
	pieceSize = 256 << 10
)

// checkpoint is the owner's state together with the place in the log from which replay brings it up to date.
type checkpoint struct {
	generation uint64
	from       Cursor
	tail       Cursor
	mark       Mark
	durable    uint64 // highest durable sequence number when it was written
	size       int64  // of the state
	sum        uint32
}

func (c *checkpoint) encode(p []byte, tag uint64) {
	clear(p[:BlockSize])
	le := binary.LittleEndian
	le.PutUint32(p, checkpointMagic)
	le.PutUint64(p[8:], tag)
	le.PutUint64(p[16:], c.generation)
	le.PutUint64(p[24:], c.durable)
	le.PutUint64(p[32:], uint64(c.size))
	le.PutUint32(p[40:], c.sum)
	c.from.encode(p[48:])
	c.tail.encode(p[72:])
	copy(p[96:], c.mark[:])
	le.PutUint32(p[4:], Checksum(p[:BlockSize]))
}

// parseCheckpoint reads the header page; area is the size of all of it.
func parseCheckpoint(p []byte, tag uint64, area int64) (*checkpoint, error) {
	le := binary.LittleEndian
	if len(p) < BlockSize || le.Uint32(p) != checkpointMagic || le.Uint64(p[8:]) != tag || !validSum(p[:BlockSize], 4) {
		return nil, fmt.Errorf("checkpoint header: %w", errInvalid)
	}
	c := &checkpoint{
		generation: le.Uint64(p[16:]), durable: le.Uint64(p[24:]), size: int64(le.Uint64(p[32:])), sum: le.Uint32(p[40:]),
		from: decodeCursor(p[48:]), tail: decodeCursor(p[72:]),
	}
	copy(c.mark[:], p[96:])
	if c.size < 0 || c.size > area-BlockSize || !c.from.valid() || !c.tail.valid() || c.tail.Pos > c.from.Pos {
		return nil, fmt.Errorf("checkpoint %d: sizes: %w", c.generation, errInvalid)
	}
	return c, nil
}

func (c *checkpoint) area(s *Superblock) Area { return s.Checkpoint[c.generation%2] }

// findCheckpoints returns those whose headers are valid, newest first.
func findCheckpoints(d Disk, s *Superblock) ([]*checkpoint, error) {
	var list []*checkpoint
	page := AlignedBuffer(BlockSize)
	for _, a := range s.Checkpoint {
		if _, err := d.ReadAt(page, a.Off); err != nil {
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		if c, err := parseCheckpoint(page, s.tag(), a.Len); err == nil && c.area(s) == a {
			list = append(list, c)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("both checkpoints: %w", ErrMediaCorrupt)
	}
	slices.SortFunc(list, func(a, b *checkpoint) int {
		if a.generation > b.generation {
			return -1
		}
		return 1
	})
	return list, nil
}

// stateReader streams a checkpoint's state. It returns ErrMediaCorrupt where the end should be
// if the checksum does not match.
type stateReader struct {
	d         Disk
	off, left int64
	buf, have []byte
	sum, want uint32
}

func newStateReader(d Disk, s *Superblock, c *checkpoint) *stateReader {
	return &stateReader{d: d, off: c.area(s).Off + BlockSize, left: c.size, buf: AlignedBuffer(int(min(pieceSize, roundUp(c.size)))), want: c.sum}
}

func (r *stateReader) Read(p []byte) (int, error) {
	if len(r.have) == 0 {
		if r.left == 0 {
			if r.sum != r.want {
				return 0, fmt.Errorf("checkpoint: checksum: %w", ErrMediaCorrupt)
			}
			return 0, io.EOF
		}
		n := min(pieceSize, r.left)
		if _, err := r.d.ReadAt(r.buf[:roundUp(n)], r.off); err != nil {
			return 0, fmt.Errorf("read checkpoint: %w", err)
		}
		r.have = r.buf[:n]
		r.off, r.left, r.sum = r.off+n, r.left-n, updateSum(r.sum, r.have)
	}
	n := copy(p, r.have)
	r.have = r.have[n:]
	return n, nil
}

// stateWriter streams a state into its area.
type stateWriter struct {
	d        Disk
	off, end int64
	buf      []byte
	n        int
	size     int64
	sum      uint32
}

func newStateWriter(d Disk, a Area) *stateWriter {
	return &stateWriter{d: d, off: a.Off + BlockSize, end: a.end(), buf: AlignedBuffer(int(min(pieceSize, a.Len)))}
}

func (w *stateWriter) Write(p []byte) (int, error) {
	if left := w.end - w.off - int64(w.n); int64(len(p)) > left {
		return 0, fmt.Errorf("checkpoint of more than %d bytes: %w", w.size+left, ErrTooLarge)
	}
	w.sum, w.size = updateSum(w.sum, p), w.size+int64(len(p))
	for rest := p; len(rest) > 0; {
		n := copy(w.buf[w.n:], rest)
		w.n, rest = w.n+n, rest[n:]
		if w.n == len(w.buf) {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (w *stateWriter) flush() error {
	n := roundUp(int64(w.n))
	clear(w.buf[w.n:n])
	if _, err := w.d.WriteAt(w.buf[:n], w.off); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	w.off, w.n = w.off+n, 0
	return nil
}

// store writes c, whose state comes from dump, and makes it durable. before is called in
// between: once it has returned, c may become valid.
func (c *checkpoint) store(d Disk, s *Superblock, dump func(io.Writer) error, before func() error) error {
	w := newStateWriter(d, c.area(s))
	if dump != nil {
		if err := dump(w); err != nil {
			return err
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	c.size, c.sum = w.size, w.sum
	if err := before(); err != nil {
		return err
	}
	// The header last: a valid one says that the rest has been durable.
	page := AlignedBuffer(BlockSize)
	c.encode(page, s.tag())
	if _, err := d.WriteAt(page, c.area(s).Off); err != nil {
		return fmt.Errorf("write checkpoint: %w", err)
	}
	return d.Sync()
}

// Checkpoint stores the owner's state, which dump writes, as of from or later: with a replay from
// there it gives the present state. from is Written, taken when everything before it was in the
// state to be dumped. What is appended during dump may or may not be in it: it is made durable
// before the checkpoint becomes valid.
//
// A state that does not fit is ErrTooLarge; that and an error of dump change nothing.
func (l *Log) Checkpoint(ctx context.Context, from Cursor, dump func(io.Writer) error) error {
	l.checkpointing.Lock()
	defer l.checkpointing.Unlock()
	if old := l.from.Load(); from.Pos < old.Pos || from.Pos > l.Written().Pos {
		return fmt.Errorf("checkpoint: replay from %d is not between %d and %d", from.Pos, old.Pos, l.Written().Pos)
	}
	l.mu.Lock()
	c := &checkpoint{generation: l.generation + 1, from: from, tail: l.durable.tail, mark: l.durable.mark}
	l.mu.Unlock()
	var dumped error
	err := c.store(syncer{l}, l.sb, func(w io.Writer) error {
		if dump != nil {
			dumped = dump(w)
		}
		return dumped
	}, func() error {
		if l.mutant == mutantCheckpointEarly {
			return nil
		}
		if err := l.Flush(ctx); err != nil && !errors.Is(err, ErrLogFull) {
			return err
		}
		c.durable = l.durableSeq.Load()
		return l.Sync()
	})
	switch {
	case dumped != nil || err != nil && ctx.Err() != nil:
		return fmt.Errorf("checkpoint: %w", err)
	case err != nil:
		return l.poison(fmt.Errorf("checkpoint: %w", err))
	}
	l.generation = c.generation
	l.from.Store(&from)
	return nil
}

const (
	replayBytes  = 256 << 20
	replayStates = 8 // replay at most this many times what the state is read
	replayGroups = 32 << 10
)

// CheckpointDue says whether a replay would take long enough for a checkpoint of about size bytes
// to be worth it, or the tail is held back for want of one.
func (l *Log) CheckpointDue(size int64) bool {
	from, w := l.from.Load(), l.Written()
	n := w.Pos - from.Pos
	return n > min(max(replayBytes, replayStates*size), l.sb.Log.Len/4) || w.Seq-from.Seq > replayGroups
}
