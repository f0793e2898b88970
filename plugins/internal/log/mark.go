package log

import "fmt"

// SetMark gives the next group a new tail and mark. They count once a group that carries
// them is durable, at the latest after the next Flush; only then is the space before tail reused.
//
// tail is a place between two groups (Group.After). It may not go back, nor pass what is
// durable, nor the place from which the last checkpoint is brought up to date.
func (l *Log) SetMark(tail Cursor, m Mark) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	from := l.from.Load()
	if tail.Pos < l.newest.tail.Pos || tail.Pos > l.durable.Pos || tail.Pos > from.Pos {
		return fmt.Errorf("set tail to %d: not between the present one at %d and the durable log at %d and the replay of the checkpoint from %d",
			tail.Pos, l.newest.tail.Pos, l.durable.Pos, from.Pos)
	}
	l.newest.tail, l.newest.mark = tail, m
	l.newest.number++
	if l.mutant == mutantReuseEarly {
		l.durable.tail = tail
		l.signal()
	}
	return nil
}

// Tail is the newest that was set, or found by Recover: nothing before it is referred to.
func (l *Log) Tail() Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest.tail
}

// Mark is the newest that was set, or found by Recover.
func (l *Log) Mark() Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest.mark
}

// Head is the end of what was appended.
func (l *Log) Head() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head()
}

func (l *Log) head() int64 {
	if l.open.active {
		return l.open.pos + l.open.payloads
	}
	return l.end
}

// Written is the place behind the last group written to the disk.
func (l *Log) Written() Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.written.Cursor
}

// Durable is the place behind the last group known durable.
func (l *Log) Durable() Cursor {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.Cursor
}

// Used is the number of bytes between the durable tail and the head.
func (l *Log) Used() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head() - l.durable.tail.Pos
}

// Free is about how much Append takes before ErrLogFull, in bytes.
func (l *Log) Free() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.durable.tail.Pos+l.sb.Log.Len-l.reserve(false)-l.head())
}

// Pos is the position that lies at a physical block of the log, counted from the log's start,
// and is not younger than the head.
func (l *Log) Pos(block uint32) int64 {
	// claimed is at or behind the head and less than a log's length from any live position.
	return l.posBefore(int64(block)*BlockSize, l.Head())
}

// posBefore is the largest position before end that is off modulo the log's size.
func (l *Log) posBefore(off, end int64) int64 {
	size := l.sb.Log.Len
	lap := (end - 1) / size * size
	if lap+off >= end {
		lap -= size
	}
	return lap + off
}
