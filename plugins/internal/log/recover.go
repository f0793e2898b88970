package log

import (
	"errors"
	"fmt"
	"io"
)

// Recover brings the owner's state up to date and makes the log ready for Append. It is called
// once, first. load reads the state of the newest checkpoint, to which everything before from has
// been applied; it is called once more, to begin anew with an older checkpoint, if the newest
// turns out to be damaged. Then apply gets every group after from, in order, and those that only
// the window still holds. Groups and records are valid only in the call; records have no Data.
//
// When it returns, a new epoch and everything applied are durable. After an error nothing but
// possibly the new epoch has been written, and the log must not be used.
func (l *Log) Recover(load func(state io.Reader, from Cursor) error, apply func(*Group) error) error {
	c, err := l.loadCheckpoint(load)
	if err != nil {
		return fmt.Errorf("recover: %w", err)
	}
	l.from.Store(&c.from)
	end, epoch, err := l.replay(c, apply)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	epoch = max(epoch, l.sb.Epoch)
	drain := l.win.ring.continues(l.sb, epoch, l.win.size()) && l.mutant != mutantKeepRing
	if err := l.beginEpoch(epoch, drain); err != nil {
		return fmt.Errorf("recover: new epoch: %w", err)
	}
	l.begin(end)
	if drain {
		if err := l.drain(apply); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	l.win.ring.begin(l.sb.Epoch)
	return nil
}

// loadCheckpoint loads the newest checkpoint whose state is whole.
func (l *Log) loadCheckpoint(load func(io.Reader, Cursor) error) (*checkpoint, error) {
	list := l.checkpoints
	l.checkpoints = nil
	if len(list) == 0 {
		return nil, errors.New("called twice")
	}
	l.generation = list[0].generation
	known := list[0].durable
	var firstErr error
	for i, c := range list {
		r := newStateReader(l.disk, l.sb, c)
		err := load(r, c.from)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // the checksum stands at the end
		}
		if err == nil {
			// A damaged one goes with the next: both areas are written in turn.
			l.generation += uint64(i)
			c.durable = max(c.durable, known)
			return c, nil
		}
		if firstErr == nil {
			firstErr = fmt.Errorf("load checkpoint %d: %w", c.generation, err)
		}
	}
	return nil, firstErr
}

// replay applies the groups on the disk from c on and returns the state behind the last one, and
// the highest epoch seen. Payloads are read only where nothing says that the group was durable.
func (l *Log) replay(c *checkpoint, apply func(*Group) error) (state, uint64, error) {
	known := c.durable
	end := state{Cursor: c.from, tail: c.tail, mark: c.mark}
	var epoch uint64
	take := func(g *Group) error {
		if err := apply(g); err != nil {
			return fmt.Errorf("group %d: %w", g.Seq, err)
		}
		end.Cursor = g.After()
		if g.Tail.Pos >= end.tail.Pos {
			end.tail, end.mark = g.Tail, g.Mark
		}
		return nil
	}
	s := l.scanner(c.from.Pos + l.sb.Log.Len)
	defer s.release()
	var held []*Group // not known durable; at most maxUnsynced segments of them
	var g Group
	for next := c.from; ; next = g.After() {
		err := s.header(&g, next)
		if err == nil && g.Epoch < epoch { // left behind by a writer whose log was cut off before
			err = fmt.Errorf("group %d of epoch %d: %w", g.Seq, g.Epoch, errInvalid)
		}
		if errors.Is(err, errInvalid) {
			break
		}
		if err != nil {
			return end, epoch, err
		}
		epoch, known = g.Epoch, max(known, g.Durable)
		for len(held) > 0 && held[0].Seq <= known {
			if err := take(held[0]); err != nil {
				return end, epoch, err
			}
			held = held[1:]
		}
		if g.Seq > known {
			held = append(held, g.clone())
		} else if err := take(&g); err != nil {
			return end, epoch, err
		}
	}
	s.ahead = readAhead
	for _, h := range held {
		err := s.payload(h)
		if errors.Is(err, errInvalid) && l.mutant != mutantTrustTorn {
			break
		}
		if err != nil && !errors.Is(err, errInvalid) {
			return end, epoch, err
		}
		if err := take(h); err != nil {
			return end, epoch, err
		}
	}
	return end, epoch, l.checkBreak(s, end.Cursor, known)
}

// checkBreak decides whether the end of the log at c is where the last writer stopped.
func (l *Log) checkBreak(s *scanner, c Cursor, known uint64) error {
	if l.mutant == mutantTruncate {
		return nil
	}
	if c.Seq <= known || s.brokenBelow(c) {
		return fmt.Errorf("group %d at position %d: %w", c.Seq, c.Pos, ErrMediaCorrupt)
	}
	return nil
}

// beginEpoch makes a new epoch durable, and with the same sync all that replay has read: that
// is on the medium or in a cache before it. The ring is told first, so that it is known for the
// continuation of this disk whether or not the process survives the superblock's write.
func (l *Log) beginEpoch(seen uint64, ringInUse bool) error {
	next := *l.sb
	next.Epoch, next.Generation = seen+1, next.Generation+1
	if l.mutant == mutantKeepEpoch {
		next.Epoch = max(l.sb.Epoch, 1)
	}
	if ringInUse {
		l.win.ring.announce(next.Epoch)
	} else {
		next.Ring = next.Epoch
		l.win.ring.claim(&next, l.win.size(), next.Ring)
	}
	if err := next.write(l.disk); err != nil {
		return err
	}
	*l.sb = next
	return nil
}

// begin lets the log go on at s, with nothing in the window.
func (l *Log) begin(s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next, l.end, l.claimed, l.windowFrom = s.Cursor, s.Pos, s.Pos, s.Pos
	l.newest, l.written = s, s
	l.lost.Store(s.Pos - l.sb.Log.Len)
	l.win.young.Store(s.Pos)
	l.setDurable(s)
}

// drain applies what the window holds beyond the end of the log on the disk, and writes it. It was
// appended and acknowledged by a process that was killed.
func (l *Log) drain(apply func(*Group) error) error {
	segment := l.sb.Segment
	end := l.end
	var g Group
	for l.end < end+l.win.size() {
		p := l.win.at(l.end, BlockSize)
		if getU32(p) != groupMagic || getU64(p[atTag:]) != l.sb.tag() || g.parseRecords(p, segment) != nil || g.Pos != l.end {
			break
		}
		g.Epoch, g.Tail, g.Mark = l.sb.Epoch, l.newest.tail, l.newest.mark
		if r, _ := g.attach(l.win.at(g.Pos, g.Len)); r >= 0 {
			return fmt.Errorf("acknowledged data in the ring at position %d: %w", g.Records[r].Pos, ErrMediaCorrupt)
		}
		for i := range g.Records {
			g.Records[i].Data = nil
		}
		if err := apply(&g); err != nil {
			return fmt.Errorf("drain ring: group at position %d: %w", g.Pos, err)
		}
		l.mu.Lock()
		// Tail and mark were not durable in any group from here on; what is durable stays as it is.
		l.open = openGroup{active: true, page: p, pos: g.Pos, published: publishedWord(getU64(p[atPublished:]))}
		l.closeGroup()
		l.claimed = l.end
		l.mu.Unlock()
		l.count.drained.Add(1)
	}
	if open := l.win.ring.open(); l.end < open {
		return fmt.Errorf("ring ends at position %d, appended was to %d at least: %w", l.end, open, ErrMediaCorrupt)
	}
	if err := l.writeOut(false); err != nil {
		return err
	}
	return l.syncWritten()
}
