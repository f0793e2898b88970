package log

import (
	"errors"
	"fmt"
)

const (
	firstWindow = 64 << 10 // small logs open with small reads
	// searchWindow is how far behind a break a group is looked for that proves the break to be
	// corruption. A group begins at most MaxGroup after the one before it, so the proof is found
	// as long as the damage is shorter than that. Every opening reads this much past the end.
	searchWindow = 2 * MaxGroup
)

// scanner reads groups in order through a growing window.
type scanner struct {
	l      *Log
	limit  int64 // position behind the last byte that may be read
	buf    []byte
	have   []byte // buf's valid part
	base   int64  // position of have[0]
	window int64
}

func (l *Log) scanner(limit int64) *scanner {
	return &scanner{l: l, limit: limit, window: firstWindow}
}

// bytes returns at least n bytes at pos, or fewer when the limit is nearer.
func (s *scanner) bytes(pos, n int64) ([]byte, error) {
	if pos >= s.base && pos+n <= s.base+int64(len(s.have)) {
		return s.have[pos-s.base:], nil
	}
	want := min(max(s.window, n), s.limit-pos)
	if want <= 0 {
		return nil, nil
	}
	s.window = min(4*s.window, MaxGroup)
	if int64(len(s.buf)) < want {
		s.buf = AlignedBuffer(int(want))
	}
	s.base, s.have = pos, s.buf[:want]
	if err := s.l.readRing(s.have, pos); err != nil {
		s.have = nil
		return nil, fmt.Errorf("read log at %d: %w", pos, err)
	}
	return s.have, nil
}

// next returns the group at c if it continues the chain, else an error that wraps errInvalid.
// The group is valid until the next call.
func (s *scanner) next(c Cursor) (*Group, error) {
	tag := s.l.sb.tag()
	p, err := s.bytes(c.Pos, BlockSize)
	if err != nil {
		return nil, err
	}
	h, _, err := parseHeader(p, tag)
	if err != nil {
		return nil, err
	}
	if h.Seq != c.Seq || h.Prev != c.Prev || h.Pos != c.Pos {
		return nil, fmt.Errorf("group %d at %d does not follow: %w", h.Seq, c.Pos, errInvalid)
	}
	if p, err = s.bytes(c.Pos, h.Len); err != nil {
		return nil, err
	}
	return parseGroup(p, tag)
}

func (g *Group) after() Cursor { return Cursor{Pos: g.Pos + g.Len, Seq: g.Seq + 1, Prev: g.Sum} }

// brokenBelow reports whether a group behind the break at c says that c was durable.
func (s *scanner) brokenBelow(c Cursor) (bool, error) {
	end := min(s.limit, c.Pos+searchWindow)
	for pos := c.Pos + BlockSize; pos < end; pos += BlockSize {
		p, err := s.bytes(pos, BlockSize)
		if err != nil || len(p) < BlockSize {
			return false, err
		}
		g, _, err := parseHeader(p, s.l.sb.tag())
		if err == nil && g.Pos == pos && g.Durable >= c.Seq {
			return true, nil
		}
	}
	return false, nil
}

// Scan hands out the durable groups from c on, in order, and returns the place after the last
// one that fn took. It ends without error at the last durable group or when fn returns
// ErrStop; the group of that call counts as not taken. The Group and its Data are valid only in fn.
// The caller sees to it that the tail does not pass c meanwhile.
func (l *Log) Scan(c Cursor, fn func(*Group) error) (Cursor, error) {
	end := l.durablePos.Load()
	s := l.scanner(end)
	for c.Pos < end {
		g, err := s.next(c)
		if errors.Is(err, errInvalid) {
			return c, fmt.Errorf("scan log at group %d: %w: %w", c.Seq, ErrMediaCorrupt, err)
		}
		if err != nil {
			return c, err
		}
		if err := fn(g); err != nil {
			if errors.Is(err, ErrStop) {
				return c, nil
			}
			return c, err
		}
		c = g.after()
	}
	return c, nil
}

// ErrStop ends a Scan early.
var ErrStop = errors.New("stop")
