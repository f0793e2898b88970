package log

import "fmt"

// Read fills p from pos, which lies in a record's payload with all of p. What is young comes
// from the window, the rest from the disk. ErrGone means that the position was reused meanwhile.
func (l *Log) Read(p []byte, pos int64) error {
	if l.win.read(p, pos) {
		return nil
	}
	off := l.offset(pos)
	if l.cached != nil {
		if err := l.cached.ReadCached(p, off); err != nil {
			return fmt.Errorf("read log at %d: %w", pos, err)
		}
	} else if err := l.readAligned(p, off); err != nil {
		return fmt.Errorf("read log at %d: %w", pos, err)
	}
	if !l.Holds(pos) {
		return fmt.Errorf("read log at %d: %w", pos, ErrGone)
	}
	return nil
}

// ReadOnce is Read for what nobody wants again soon: what is not young is read past the page cache, where it would only take
// the place of something else. pos and p, its address as well, are multiples of BlockSize (see AlignedBuffer).
func (l *Log) ReadOnce(p []byte, pos int64) error {
	if l.win.read(p, pos) {
		return nil
	}
	if _, err := l.disk.ReadAt(p, l.offset(pos)); err != nil {
		return fmt.Errorf("read log at %d: %w", pos, err)
	}
	if !l.Holds(pos) {
		return fmt.Errorf("read log at %d: %w", pos, ErrGone)
	}
	return nil
}

// TryRead is Read if that needs no I/O, and reports whether it did it.
func (l *Log) TryRead(p []byte, pos int64) bool {
	if l.win.read(p, pos) {
		return true
	}
	return l.cached != nil && l.cached.TryReadCached(p, l.offset(pos)) && l.Holds(pos)
}

// Fetch begins to read n bytes from pos, which lie in one record, into the cache, unless the window holds them. It is a hint.
func (l *Log) Fetch(pos, n int64) {
	if l.cached != nil && !l.Young(pos) {
		l.cached.Fetch(l.offset(pos), n)
	}
}

// Young reports whether the window holds pos.
func (l *Log) Young(pos int64) bool { return pos >= l.win.young.Load() }

// YoungFrom is the position from which on the window holds the log. It only grows, and what is before it is on the disk.
func (l *Log) YoungFrom() int64 { return l.win.young.Load() }

// Holds reports whether the disk still holds what was at pos when it was written. A reader asks
// after reading.
func (l *Log) Holds(pos int64) bool { return pos >= l.lost.Load() }

func (l *Log) offset(pos int64) int64 { return l.sb.Log.Off + pos%l.sb.Log.Len }

// readAligned reads any bytes of the disk with whole blocks.
func (l *Log) readAligned(p []byte, off int64) error {
	if off%BlockSize == 0 && aligned(p) {
		_, err := l.disk.ReadAt(p, off)
		return err
	}
	in := off % BlockSize
	buf := AlignedBuffer(int(roundUp(in + int64(len(p)))))
	if _, err := l.disk.ReadAt(buf, off-in); err != nil {
		return err
	}
	copy(p, buf[in:])
	return nil
}

// readBlocks fills p with whole blocks from pos, past every cache but, unless direct, the window.
func (l *Log) readBlocks(p []byte, pos int64, direct bool) error {
	for len(p) > 0 {
		n := min(int64(len(p)), l.sb.Segment-pos%l.sb.Segment)
		if direct || !l.win.read(p[:n], pos) {
			if _, err := l.disk.ReadAt(p[:n], l.offset(pos)); err != nil {
				return fmt.Errorf("read log at %d: %w", pos, err)
			}
		}
		p, pos = p[n:], pos+n
	}
	return nil
}
