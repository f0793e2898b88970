package volume

import "sync"

const (
	streams     = 8
	firstWindow = 2  // cells fetched ahead when a second miss follows the first
	judgeEvery  = 64 // cells fetched ahead between two looks at how many were read
)

// readAhead decides which cells are fetched before anybody asks for them. It knows a few sequential readers at a
// time; each one's window doubles while it goes on. When too little of what was fetched is read, all windows shrink, and
// grow again when it is. It does no I/O.
type readAhead struct {
	limit uint64 // cells, the most for one reader; 0 for none

	mu      sync.Mutex
	streams [streams]stream
	clock   uint64
	allowed uint64 // limit as experience has it

	fetched, read       uint64
	fetchedThen, readAt uint64 // when it was last judged
}

type stream struct {
	next   uint64 // the cell that a sequential reader reads next
	end    uint64 // behind the last cell fetched ahead
	window uint64
	used   uint64 // clock
}

// miss tells of a read of cells first to last, some of which are not here, and returns the cells to fetch
// behind them.
func (a *readAhead) miss(first, last uint64) (from, n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.limit == 0 {
		return 0, 0
	}
	a.clock++
	s := a.find(first)
	if s == nil {
		s = a.oldest()
		*s = stream{next: last + 1, end: last + 1, used: a.clock}
		return 0, 0
	}
	return a.advance(s, last)
}

// hit tells that a cell that was fetched ahead is being read: the window moves on before the reader waits.
func (a *readAhead) hit(cell uint64) (from, n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock++
	for i := range a.streams {
		if s := &a.streams[i]; s.window > 0 && cell >= s.next && cell < s.end {
			return a.advance(s, cell)
		}
	}
	return 0, 0
}

// find returns the stream that a read at cell belongs to: where it would go on, or the cell it is in.
func (a *readAhead) find(cell uint64) *stream {
	for i := range a.streams {
		if s := &a.streams[i]; s.used > 0 && (cell == s.next || cell+1 == s.next || cell > s.next && cell < s.end) {
			return s
		}
	}
	return nil
}

func (a *readAhead) oldest() *stream {
	s := &a.streams[0]
	for i := range a.streams {
		if a.streams[i].used < s.used {
			s = &a.streams[i]
		}
	}
	return s
}

func (a *readAhead) advance(s *stream, last uint64) (from, n uint64) {
	s.used = a.clock
	if last+1 <= s.next {
		return 0, 0 // still in the same cell
	}
	s.next = last + 1
	if s.end > s.next && s.end-s.next > s.window/2 {
		return 0, 0 // enough is under way
	}
	s.window = min(max(2*s.window, firstWindow), a.judged())
	from = max(s.end, s.next)
	end := s.next + s.window
	if end <= from {
		return 0, 0
	}
	s.end = end
	a.fetched += end - from
	return from, end - from
}

// judged is the largest window that pays.
func (a *readAhead) judged() uint64 {
	if a.allowed == 0 {
		a.allowed = a.limit
	}
	if a.fetched-a.fetchedThen >= judgeEvery {
		switch got, of := a.read-a.readAt, a.fetched-a.fetchedThen; {
		case 2*got < of:
			a.allowed = max(a.allowed/2, 1)
		case 4*got >= 3*of:
			a.allowed = min(2*a.allowed, a.limit)
		}
		a.fetchedThen, a.readAt = a.fetched, a.read
	}
	return a.allowed
}

// used tells that n cells that were fetched ahead have been read.
func (a *readAhead) used(n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.read += n
}

// efficiency returns how many cells were fetched ahead and how many of them were read.
func (a *readAhead) efficiency() (fetched, read uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fetched, a.read
}
