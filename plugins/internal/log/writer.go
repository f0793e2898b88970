package log

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// What Run can be asked to do.
const (
	orderWrite uint32 = 1 << iota // write the closed groups
	orderAll                      // write what has been appended
	orderFlush                    // make what has been appended durable, unless that is under way
	orderTimer                    // do so after MaxAge
)

const (
	// writeAhead is how much closed log Run is not woken for, in bytes.
	writeAhead = 1 << 20
	// maxUnsynced bounds what is written but not durable, in segments. It is how far behind a
	// break the proof can lie that the break is corruption.
	maxUnsynced = 8
)

func (l *Log) poke(order uint32) {
	if l.orders.Or(order)&order == order {
		return // asked for already
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// appended decides after each record whether Run has something to do. alone leaves a flush that is expected to the
// caller. Called with mu held.
func (l *Log) appended(alone bool) {
	var order uint32
	if due := l.flushes.appended(); due && alone {
		l.due.Store(true)
	} else if due {
		order = orderFlush
	} else if l.end-l.written.Pos >= min(writeAhead, l.win.size()/4) {
		order = orderWrite
	}
	if !l.timed && l.maxAge > 0 {
		l.timed = true
		order |= orderTimer
	}
	if order != 0 {
		l.poke(order)
	}
}

// Run writes ahead of flushes until ctx ends or the log fails. It ends with everything appended
// durable; from then on Append returns ErrClosed or the log's error.
func (l *Log) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	for {
		var err error
		select {
		case <-l.wake:
			order := l.orders.Swap(0)
			if order&orderTimer != 0 {
				timer.Reset(l.maxAge)
			}
			switch {
			case order&orderFlush != 0:
				err = l.ahead()
			case order&(orderAll|orderWrite) != 0:
				err = l.writeOut(order&orderAll != 0)
			}
		case <-timer.C:
			l.mu.Lock()
			l.timed = false
			l.mu.Unlock()
			err = l.ahead()
		case <-ctx.Done():
			return l.finish()
		}
		if err != nil && !errors.Is(err, ErrLogFull) {
			l.mu.Lock()
			l.closed = true
			l.signal()
			l.mu.Unlock()
			return err
		}
	}
}

// finish is the last flush. A group without records tells the next opening that the ones
// before it were durable, so that a damaged one is not taken for a torn one.
func (l *Log) finish() error {
	l.mu.Lock()
	l.closed = true
	l.signal()
	l.mu.Unlock()
	err := l.Flush(context.Background())
	l.mu.Lock()
	if err == nil && l.flushes.total > 0 {
		l.newest.number++
	}
	l.mu.Unlock()
	if err == nil {
		err = l.Flush(context.Background())
	}
	if errors.Is(err, ErrLogFull) {
		return nil // no room for the mark; all that was appended is durable
	}
	return err
}

// writeOut writes what was closed before the call or, with all, everything that was appended and
// the newest mark.
func (l *Log) writeOut(all bool) error {
	l.io.Lock()
	defer l.io.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	l.mu.Lock()
	var full error
	mark := l.newest.number
	if all {
		full = l.closeAll(mark)
	}
	end := l.end
	l.mu.Unlock()
	if err := l.writeUpTo(end); err != nil || !errors.Is(full, ErrWindowFull) {
		return cmp.Or(err, full)
	}
	// There is room now, but those who waited for it may have been faster, and their group is open or has
	// the mark already. It fails only for want of room in the log: either it has the mark, or the window is empty.
	l.mu.Lock()
	if l.mutant == mutantMarkOverGroup {
		full = l.closeMark()
	} else {
		full = l.closeAll(mark)
	}
	end = l.end
	l.mu.Unlock()
	return cmp.Or(l.writeUpTo(end), full)
}

// writeUpTo writes the closed groups up to end. The caller holds io.
func (l *Log) writeUpTo(end int64) error {
	for l.next.Pos < end {
		if err := l.writeRun(end); err != nil {
			return err
		}
	}
	return nil
}

// writeRun seals the groups up to end, at most those of one segment, and writes them at once.
func (l *Log) writeRun(end int64) error {
	first, now := l.next.Pos, l.now().UnixNano()
	end = min(end, first-first%l.sb.Segment+l.sb.Segment)
	// What is on the disk a lap earlier is gone from here on, for readers without a lock, too.
	if gone := end - l.sb.Log.Len; gone > l.lost.Load() {
		l.lost.Store(gone)
	}
	if end-l.durablePos.Load() > maxUnsynced*l.sb.Segment {
		if err := l.syncWritten(); err != nil {
			return err
		}
	}
	var last state
	for l.next.Pos < end {
		last.tail, last.mark = l.sealGroup(now)
		l.count.groups.Add(1)
	}
	if _, err := l.disk.WriteAt(l.win.at(first, end-first), l.sb.Log.Off+first%l.sb.Log.Len); err != nil {
		return l.poison(fmt.Errorf("write log at %d: %w", first, err))
	}
	l.count.writes.Add(1)
	l.count.bytes.Add(end - first)
	l.mu.Lock()
	last.Cursor, last.number = l.next, l.written.number
	if l.end == end {
		last.number = l.closedMarks
	}
	l.written = last
	l.signal()
	l.mu.Unlock()
	return nil
}

// sealGroup gives the closed group at next its place in the chain.
func (l *Log) sealGroup(now int64) (Cursor, Mark) {
	p := l.win.at(l.next.Pos, BlockSize)
	putU64(p[atEpoch:], l.sb.Epoch)
	putU64(p[atSeq:], l.next.Seq)
	putU64(p[atDurable:], l.durableSeq.Load())
	putU64(p[atTime:], uint64(now))
	putU32(p[atPrev:], l.next.Prev)
	sum := sumWithout(p, atSum)
	putU32(p[atSum:], sum)
	n := int64(getU32(p[atLen:]))
	l.next = Cursor{Pos: l.next.Pos + n, Seq: l.next.Seq + 1, Prev: sum}
	return decodeCursor(p[atTail:]), Mark(p[atMark : atMark+len(Mark{})])
}

// syncWritten makes durable what has been written before the call.
func (l *Log) syncWritten() error {
	l.mu.Lock()
	w := l.written
	l.mu.Unlock()
	if err := l.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	if w.Pos > l.durable.Pos {
		l.setDurable(w)
		l.signal()
	}
	l.mu.Unlock()
	return nil
}

// setDurable is called with mu held.
func (l *Log) setDurable(s state) {
	l.durable = s
	l.durableSeq.Store(s.Seq - 1)
	l.durableMarks.Store(int64(s.number))
	l.durablePos.Store(s.Pos)
}

// signal wakes who waits for room. Called with mu held.
func (l *Log) signal() {
	if l.waiting {
		close(l.room)
		l.room, l.waiting = make(chan struct{}), false
	}
}

// WaitRoom returns when Append may take n more bytes of payload, or as much as it takes at
// once, in a record with or without Reserve. Another goroutine may be faster: the caller tries again.
func (l *Log) WaitRoom(ctx context.Context, n int64, reserve bool) error {
	for {
		l.mu.Lock()
		if err := l.Err(); err != nil || l.closed {
			l.mu.Unlock()
			if err == nil {
				err = ErrClosed
			}
			return err
		}
		end := l.head() + min(roundUp(n)+minGroup, l.sb.Segment)
		inLog := end <= l.durable.tail.Pos+l.sb.Log.Len-l.reserve(reserve)
		if inLog && end <= l.written.Pos+l.win.size() {
			l.mu.Unlock()
			return nil
		}
		room := l.room
		l.waiting = true
		if inLog {
			l.poke(orderWrite)
		}
		l.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
