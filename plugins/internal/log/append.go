package log

import (
	"fmt"
)

// openGroup is the group at the end of the log, under construction in the window.
type openGroup struct {
	active bool
	page   []byte // its header page
	pos    int64
	published
}

// claimStep is how far young is moved ahead of the appended data, so that it need not move with
// every record. In bytes.
const claimStep = 64 << 10

// Append adds r to the log: copied into the window and readable when it returns. It takes all of
// the record or, of a Write or Fill, a shorter run of whole blocks from its start; n says how
// much, and the caller goes on with the rest. It never waits: ErrWindowFull and ErrLogFull mean
// that nothing was taken and that WaitRoom helps.
//
// The order of calls is the order of the log. An owner that keeps an index in the same order
// calls it under a lock of its own.
func (l *Log) Append(r Record) (pos, n int64, err error) {
	if err := r.appendable(); err != nil {
		return 0, 0, fmt.Errorf("append: %w", err)
	}
	if err := l.Err(); err != nil {
		return 0, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, 0, ErrClosed
	}
	at, n := l.place(&r)
	if n == 0 {
		l.closeGroup()
		at, n = l.place(&r)
	}
	if err := l.claim(l.groupPos()+groupLen(l.groupPos(), at+r.Kind.payload(n), l.sb.Segment), l.reserve(r.Reserve)); err != nil {
		return 0, 0, err
	}
	if !l.open.active {
		l.openGroup()
	}
	l.add(&r, at, n)
	l.appended(r.Alone)
	return l.open.pos + at, n, nil
}

// appendable is what check holds a record on the disk to, before it gets there.
func (r *Record) appendable() error {
	n := r.Len
	if r.Kind == Zero {
		n = 0
	}
	if int64(len(r.Data)) != n {
		return fmt.Errorf("record of %d bytes with %d bytes of data", r.Len, len(r.Data))
	}
	if r.Sums != nil && int64(len(r.Sums)) < r.Kind.sums(r.Len) {
		return fmt.Errorf("record of %d bytes with %d checksums", r.Len, len(r.Sums))
	}
	p := *r
	p.Pos = 0
	return p.check(0, n)
}

// payload is how much room n bytes of a record take.
func (k Kind) payload(n int64) int64 {
	if k == Zero {
		return 0
	}
	return n
}

// groupPos is where the open group is, or the next one will be.
func (l *Log) groupPos() int64 {
	if l.open.active {
		return l.open.pos
	}
	return l.end
}

// place finds where in the group r's payload would begin, and how much of it fits: 0 if the
// group is too full for any.
func (l *Log) place(r *Record) (at, n int64) {
	w := published{headEnd: groupHeader, payloads: BlockSize}
	if l.open.active {
		w = l.open.published
	}
	sums := (BlockSize - w.headEnd - recordHeader) / 4
	room := l.sb.Segment - l.groupPos()%l.sb.Segment
	switch {
	case sums < 0:
		return 0, 0
	case r.Kind == Zero:
		return w.payloads, r.Len
	case r.Kind == Patch:
		if sums < 1 || r.Len > room-w.payloads {
			return 0, 0
		}
		return w.payloads, r.Len
	default:
		at = roundUp(w.payloads)
		return at, min(r.Len, (room-at)&^(BlockSize-1), sums*BlockSize)
	}
}

// Both reserves keep the log from a standstill: what frees it needs a little room to say so.
func (l *Log) reserve(owner bool) int64 {
	if owner {
		return l.sb.Segment // zero-record groups, which carry the tail
	}
	return l.sb.Segment + l.sb.Log.Len/16
}

// claim makes the log up to end ours to fill.
func (l *Log) claim(end, reserve int64) error {
	if end > l.durable.tail.Pos+l.sb.Log.Len-reserve {
		return ErrLogFull
	}
	limit := l.written.Pos + l.win.size()
	if end > limit {
		l.poke(orderWrite)
		return ErrWindowFull
	}
	if end > l.claimed {
		l.claimed = min(end+claimStep, limit)
		l.win.young.Store(max(l.windowFrom, l.claimed-l.win.size()))
	}
	return nil
}

// openGroup begins a group at the end of the log. The caller has claimed the room.
func (l *Log) openGroup() {
	page := l.win.at(l.end, BlockSize)
	l.win.ring.setOpen(l.end)
	// The page must not look like a group until it is one: its place may have held one.
	wordAt(page, 0).Store(0)
	clear(page)
	putU64(page[atTag:], l.sb.tag())
	putU64(page[atPos:], uint64(l.end))
	l.open = openGroup{active: true, page: page, pos: l.end, published: published{headEnd: groupHeader, payloads: BlockSize}}
	wordAt(page, atPublished).Store(l.open.word())
	wordAt(page, 0).Store(groupMagic)
}

// add copies the first n bytes of r to at in the open group.
func (l *Log) add(r *Record, at, n int64) {
	o := &l.open
	r.encode(o.page[o.headEnd:], at, n)
	o.headEnd += recordHeader
	for i := range r.Kind.sums(n) {
		putU32(o.page[o.headEnd:], r.sum(i))
		o.headEnd += 4
	}
	if r.Kind != Zero {
		clear(l.win.at(o.pos+o.payloads, at-o.payloads))
		copy(l.win.at(o.pos+at, n), r.Data)
		o.payloads = at + n
	}
	o.records++
	// From here on the record outlives the process.
	wordAt(o.page, atPublished).Store(o.word())
}

// sum is the checksum of the i-th block of the payload.
func (r *Record) sum(i int64) uint32 {
	switch {
	case r.Sums != nil:
		return r.Sums[i]
	case r.Kind == Patch:
		return Checksum(r.Data)
	default:
		return Checksum(r.Data[i*BlockSize : (i+1)*BlockSize])
	}
}

// closeGroup ends the open group, if there is one; the next begins behind it.
func (l *Log) closeGroup() {
	o := &l.open
	if !o.active {
		return
	}
	n := groupLen(o.pos, o.payloads, l.sb.Segment)
	clear(l.win.at(o.pos+o.payloads, n-o.payloads))
	putU32(o.page[atLen:], uint32(n))
	l.newest.tail.encode(o.page[atTail:])
	copy(o.page[atMark:], l.newest.mark[:])
	o.active = false
	l.end, l.closedMarks = o.pos+n, l.newest.number
}

// closeAll ends the open group and sees to it that a closed group carries the mark of that number.
func (l *Log) closeAll(mark uint64) error {
	l.closeGroup()
	if l.closedMarks >= mark {
		return nil
	}
	return l.closeMark()
}

// closeMark closes a group without records, which carries the newest mark. No group may be open: it would take that
// one's place.
func (l *Log) closeMark() error {
	if err := l.claim(l.end+groupLen(l.end, BlockSize, l.sb.Segment), 0); err != nil {
		return err
	}
	l.openGroup()
	l.closeGroup()
	return nil
}
