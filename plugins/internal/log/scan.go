package log

import (
	"errors"
	"fmt"
)

const (
	// readAhead is what a scan reads at once while groups are small, in bytes; far apart headers
	// are read page by page.
	readAhead = 256 << 10
	smallRead = 64 << 10 // the first read: small logs open with small reads
)

// scanner reads groups in order through a window of its own.
type scanner struct {
	l     *Log
	limit int64 // position behind the last byte that may be read
	buf   []byte
	have  []byte // buf's valid part
	base  int64  // position of have[0]
	ahead int64
	// careful is where the last read ahead that failed would have ended: what lies before is read page by page.
	careful int64
	// direct reads the disk even where the window holds the same.
	direct bool
}

func (l *Log) scanner(limit int64) *scanner {
	s, _ := l.scanners.Get().(*scanner)
	if s == nil {
		s = new(scanner)
	}
	*s = scanner{l: l, limit: limit, ahead: smallRead, buf: s.buf}
	return s
}

// release lets another scan have the buffer.
func (s *scanner) release() { s.l.scanners.Put(s) }

// bytes returns at least n bytes at pos, or fewer when the limit is nearer. What is read ahead may be no part of the log, and
// need not be readable.
func (s *scanner) bytes(pos, n int64) ([]byte, error) {
	if pos >= s.base && pos+n <= s.base+int64(len(s.have)) {
		return s.have[pos-s.base:], nil
	}
	want := min(max(s.ahead, n), s.limit-pos)
	if pos < s.careful {
		want = min(n, s.limit-pos)
	}
	if want <= 0 {
		return nil, nil
	}
	if int64(len(s.buf)) < want {
		s.buf = AlignedBuffer(int(want))
	}
	s.base, s.have = pos, s.buf[:want]
	err := s.l.readBlocks(s.have, pos, s.direct)
	if err != nil && want > n {
		s.careful = pos + want
		s.have = s.buf[:n]
		err = s.l.readBlocks(s.have, pos, s.direct)
	}
	if err != nil {
		s.have = nil
		return nil, err
	}
	return s.have, nil
}

// header reads the header of the group at c into g, if it continues the chain; else the error
// wraps errInvalid.
func (s *scanner) header(g *Group, c Cursor) error {
	p, err := s.bytes(c.Pos, BlockSize)
	if err != nil {
		return err
	}
	if err := g.parseHeader(p, s.l.sb.tag(), s.l.sb.Segment); err != nil {
		return err
	}
	if g.Seq != c.Seq || g.Prev != c.Prev || g.Pos != c.Pos {
		return fmt.Errorf("group %d at %d does not follow: %w", g.Seq, c.Pos, errInvalid)
	}
	// Reading what lies between two headers costs less than another read while it is short.
	if s.ahead = readAhead; g.Len >= readAhead/2 {
		s.ahead = BlockSize
	}
	return nil
}

// payload gives g's records their Data, valid until the scanner reads on, and checks it.
func (s *scanner) payload(g *Group) error {
	p, err := s.bytes(g.Pos, g.Len)
	if err != nil {
		return err
	}
	if int64(len(p)) < g.Len {
		return fmt.Errorf("group %d: behind the end: %w", g.Seq, errInvalid)
	}
	if r, b := g.attach(p); r >= 0 {
		return fmt.Errorf("group %d: record %d at %d: payload of block %d: %w", g.Seq, r, g.Records[r].Pos, b, errInvalid)
	}
	return nil
}

// brokenBelow reports whether a group behind the break at c says that c was durable. What a
// writer left unsynced is bounded, and so is the search. In the segment of the break groups may
// begin anywhere; the ones after it begin with a group, and are walked. A page that cannot be read says nothing.
func (s *scanner) brokenBelow(c Cursor) bool {
	var g Group
	segment := s.l.sb.Segment
	group := func(pos int64) (found, broken bool) {
		p, err := s.bytes(pos, BlockSize)
		if err != nil || g.parseHeader(p, s.l.sb.tag(), segment) != nil || g.Pos != pos {
			return false, false
		}
		return true, g.Durable >= c.Seq
	}
	s.ahead = readAhead
	next := c.Pos - c.Pos%segment + segment
	for pos := c.Pos + BlockSize; pos < next; pos += BlockSize {
		if _, broken := group(pos); broken {
			return true
		}
	}
	s.ahead = BlockSize
	for range maxUnsynced {
		for pos := next; pos < next+segment; pos += g.Len {
			found, broken := group(pos)
			if broken {
				return true
			}
			if !found {
				break
			}
		}
		next += segment
	}
	return false
}

// ScanOptions of Scan; the zero value works.
type ScanOptions struct {
	// Headers leaves the records without Data, and the payloads unread.
	Headers bool
	// End is the position at which to stop. 0 means the end of what is durable.
	End int64
}

// Scan hands out the durable groups from c on, in order, and returns the place after the last
// one that fn took. It ends without error at the end or when fn returns ErrStop; the group of
// that call counts as not taken. The Group and its Data are valid only in fn.
// The caller sees to it that the tail does not pass c meanwhile.
func (l *Log) Scan(c Cursor, o ScanOptions, fn func(*Group) error) (Cursor, error) {
	end := l.durablePos.Load()
	if o.End > 0 {
		end = min(end, o.End)
	}
	s := l.scanner(l.durablePos.Load())
	defer s.release()
	var g Group
	for c.Pos < end {
		err := s.header(&g, c)
		if err == nil && !o.Headers {
			err = s.payload(&g)
		}
		if errors.Is(err, errInvalid) {
			return c, fmt.Errorf("scan log at group %d, position %d: %w: %w", c.Seq, c.Pos, ErrMediaCorrupt, err)
		}
		if err != nil {
			return c, err
		}
		if err := fn(&g); err != nil {
			if errors.Is(err, ErrStop) {
				return c, nil
			}
			return c, err
		}
		c = g.After()
	}
	return c, nil
}
