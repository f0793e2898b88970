package host

import (
	"bufio"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	// ringLines is how many of a plugin's last lines are kept.
	ringLines = 1000
	// maxLine bounds one log line; the rest of a longer one is dropped.
	maxLine = 8 << 10
)

// LogLine is one line a plugin wrote to its log.
type LogLine struct {
	Time   time.Time // when core read it; each line's is later than that of the one before
	Plugin string
	PID    int
	Text   string
}

// ring keeps the last lines of one plugin over all its processes.
type ring struct {
	plugin string
	tee    func(LogLine)

	mu     sync.Mutex
	lines  []LogLine
	next   int // where the oldest line is, once the ring is full
	newest time.Time
}

func (r *ring) add(l LogLine) {
	r.mu.Lock()
	l.Time = time.Now()
	if !l.Time.After(r.newest) {
		l.Time = r.newest.Add(1)
	}
	r.newest = l.Time
	if len(r.lines) < ringLines {
		r.lines = append(r.lines, l)
	} else {
		r.lines[r.next] = l
		r.next = (r.next + 1) % ringLines
	}
	r.mu.Unlock()
	if r.tee != nil {
		r.tee(l)
	}
}

// last returns the newest n lines, oldest first; n <= 0 means all.
func (r *ring) last(n int) []LogLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]LogLine, 0, len(r.lines))
	out = append(out, r.lines[r.next:]...)
	out = append(out, r.lines[:r.next]...)
	if n > 0 && n < len(out) {
		out = out[len(out)-n:]
	}
	return out
}

// copy reads lines from a process until the last holder of its log pipe is gone.
func (r *ring) copy(pid int, from io.ReadCloser) {
	defer from.Close()
	br := bufio.NewReaderSize(from, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			r.add(r.line(pid, line))
			for errors.Is(err, bufio.ErrBufferFull) { // drop the rest
				_, err = br.ReadSlice('\n')
			}
		} else if len(line) > 0 {
			r.add(r.line(pid, line))
		}
		if err != nil {
			return
		}
	}
}

func (r *ring) line(pid int, b []byte) LogLine {
	for len(b) > 0 && (b[len(b)-1] == '\n' || b[len(b)-1] == '\r') {
		b = b[:len(b)-1]
	}
	return LogLine{Plugin: r.plugin, PID: pid, Text: string(b)}
}
