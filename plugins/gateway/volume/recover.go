package volume

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// recovery rebuilds the index: the checkpoint's, then what the groups behind it say.
//
// An entry's place is a position modulo the log's size, so it means something only together with a
// range of that size. While groups are replayed that range ends where the group begins: what an
// advancing tail leaves behind is dropped before anything can be put in its place.
type recovery struct {
	v      *Volume
	size   int64 // of the log
	tail   int64
	from   log.Cursor // what the checkpoint does not have
	oldest int64      // dirty write, as the checkpoint knew it
	places []log.Cursor
}

// recover brings the volume's state up from the log.
func (v *Volume) recover() error {
	r := &recovery{v: v, size: v.log.Size()}
	if err := v.log.Recover(r.load, r.apply); err != nil {
		return err
	}
	head, tail := v.log.Head(), v.log.Tail()
	v.head.Store(head)
	v.dirty.Store(head)
	r.drop(tail.Pos, head)
	m, err := decodeMark(v.log.Mark())
	if err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	if m.confirmed.Pos < tail.Pos || m.confirmed.Seq == 0 {
		m.confirmed = tail
	}
	v.marks.m = m
	v.over.confirm(v.index, m.confirmed.Pos)
	first := m.confirmed
	if r.oldest == 0 && first.Pos < r.from.Pos {
		first = r.from // what is before it may be long, and nothing of it was dirty
	}
	if _, oldest, err := v.unconfirmed(first, m.headSeq); err == nil { // else the upload will say why
		r.oldest = oldest
	}
	v.up.init(m, r.oldest, tail, r.places)
	return nil
}

// unconfirmed returns the place behind the groups from c on that the head of seq covers, and when the first dirty write from
// there on was acknowledged, 0 if there is none.
func (v *Volume) unconfirmed(c log.Cursor, seq uint64) (at log.Cursor, oldest int64, err error) {
	found := false
	end, err := v.log.Scan(c, log.ScanOptions{Headers: true}, func(g *log.Group) error {
		if g.Seq <= seq {
			return nil
		}
		if !found {
			at, found = log.Cursor{Pos: g.Pos, Seq: g.Seq, Prev: g.Prev}, true
		}
		if slices.ContainsFunc(g.Records, func(r log.Record) bool { return r.Kind != log.Fill }) {
			oldest = g.Time
			return log.ErrStop
		}
		return nil
	})
	if !found {
		at = end
	}
	return at, oldest, err
}

// load starts from a checkpoint. It is called again if one turns out to be damaged.
func (r *recovery) load(in io.Reader, from log.Cursor) error {
	v := r.v
	br := bufio.NewReaderSize(in, 256<<10)
	s, err := readState(br)
	if err != nil {
		return err
	}
	// A resize moves the superblock's size before or after; whatever is larger holds all there is.
	blocks := uint64(max(s.size, v.Size())) / blockSize
	if v.index, err = index.New(blocks); err != nil {
		return err
	}
	v.over = overlay{blocks: make(map[uint64][]patch)}
	if err := v.index.Load(br, func(index.Entry) bool { return true }); err != nil {
		return err
	}
	v.blank = readBlanks(br, chunksOf(s.size))
	s.readSums(br)
	for _, p := range s.patches {
		if err := v.index.Prepare(p.block, 1); err != nil {
			return err
		}
		v.over.add(v.index, p.block, p.patch)
	}
	r.tail, r.from, r.oldest, r.places = s.tail, from, s.oldest, append(s.places, from)
	return nil
}

// apply replays one group.
func (r *recovery) apply(g *log.Group) error {
	v := r.v
	if g.Tail.Pos > r.tail {
		r.drop(g.Tail.Pos, g.Pos)
	}
	// A group that only the window holds has no place in the chain yet.
	if last := r.places[len(r.places)-1]; g.Seq != 0 && g.Pos-last.Pos >= 2*r.size/maxPlaces {
		r.places = append(r.places, log.Cursor{Pos: g.Pos, Seq: g.Seq, Prev: g.Prev})
	}
	for i := range g.Records {
		rec := &g.Records[i]
		if err := r.reach(rec.Off + rec.Len); err != nil {
			return fmt.Errorf("record %d+%d: %w", rec.Off, rec.Len, err)
		}
		if err := v.prepare(rec.Kind, rec.Off, rec.Len); err != nil {
			return err
		}
		v.publish(rec.Kind, rec.Off, rec.Len, rec.Pos, rec.Sums)
	}
	return nil
}

// maxVolume bounds what a record can make the index grow to, in bytes.
const maxVolume = 1 << 50

// reach makes the index as large as the volume was when a record that ends at end was written: it may have become
// smaller since.
func (r *recovery) reach(end int64) error {
	x := r.v.index
	switch {
	case end <= int64(x.Blocks())*blockSize:
		return nil
	case end > maxVolume:
		return ErrRange
	}
	return x.Grow(uint64(end+blockSize-1) / blockSize)
}

// drop forgets what lies before tail, in a log that ends at head.
func (r *recovery) drop(tail, head int64) {
	r.tail = tail
	x := r.v.index
	for c, more := uint64(0), true; more; {
		c, more = x.Sweep(c, 1<<20, func(_, _ uint64, e index.Entry) index.Entry {
			if e.Placed() && logical(e.Place(), head, r.size) < tail {
				return 0
			}
			return e
		})
	}
	r.v.over.confirm(x, tail)
}

// logical is the youngest position before head at a place of a log of size bytes.
func logical(place uint32, head, size int64) int64 {
	off := int64(place) * blockSize
	pos := (head-1)/size*size + off
	if pos >= head {
		pos -= size
	}
	return pos
}
