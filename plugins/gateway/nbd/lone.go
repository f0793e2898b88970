package nbd

import (
	"context"
	"net"
	"syscall"
	"time"
)

const (
	// loneAfter is how many requests in a row must have come one at a time before the client is taken at its word.
	loneAfter = 8
	// lonePenalty is added to that when the client was taken wrongly: the requests that a wrong guess delays become rare.
	lonePenalty = 256
)

// lone finds out whether a client has one request under way at a time: a database's commits, dd, a journal. Nobody waits
// behind a FLUSH of such a client, so the reader carries it out itself. Handing it to another goroutine
// and the reply back costs several wake-ups of threads, which is more than the disk takes when the machine is busy.
type lone struct {
	row   int // requests that came one at a time, minus penalties
	asked syscall.RawConn
	look  func(fd uintptr) // one method value, not one for each look
	more  bool             // what it saw
	ahead bool             // a FLUSH was begun before the client asked for it
	// commits is how many of the row in the end were a WRITE that is made durable before the next, or the FLUSH that
	// does so; open says that such a WRITE waits for it.
	commits int
	open    bool
}

func (l *lone) init(nc net.Conn) {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return // TLS: what the client has sent cannot be told without reading it
	}
	if rc, err := c.SyscallConn(); err == nil {
		l.asked, l.look = rc, l.pending
	}
}

// arrived counts a request. among says that it came before the reply to another had been sent.
func (l *lone) arrived(req request, among bool) {
	switch {
	case among:
		l.row = min(l.row, 0)
	case l.ahead && req.cmd != CmdFlush:
		l.row = -lonePenalty
	default:
		l.row++
	}
	l.ahead = false
	if among || !l.expects(req) {
		l.commits, l.open = 0, false
		return
	}
	l.commits++
	l.open = req.cmd == CmdWrite && req.flags&cmdFUA == 0
}

// expects reports whether a client that makes each write durable would send this now.
func (l *lone) expects(req request) bool {
	return l.open && req.cmd == CmdFlush || !l.open && req.cmd == CmdWrite && req.n > 0
}

// isCommitting reports whether the client has done so for a while.
func (l *lone) isCommitting() bool { return l.is() && l.commits >= crewAfter && !l.open }

// is reports whether the client waits for each reply.
func (l *lone) is() bool { return l.row >= loneAfter && l.asked != nil }

// check takes the client for what it is if it has sent more while its request was carried out.
func (l *lone) check() {
	l.more = true // of a connection that is closed
	_ = l.asked.Control(l.look)
	if l.more {
		l.row = -lonePenalty
	}
}

func (l *lone) pending(fd uintptr) { l.more = unread(int(fd)) }

// flushLone carries out a FLUSH of a client that waits for it.
func (s *session) flushLone(ctx context.Context, req request, start time.Time) error {
	s.stats.parked.Add(1)
	err := s.backend.Flush(ctx)
	s.stats.parked.Add(-1)
	s.lone.check()
	s.count(req, start, err != nil)
	var message string
	if err != nil {
		message = err.Error()
	}
	b := s.room(structuredLen + 6 + maxErrorMessage)
	b.b = appendDone(b.b, s.lim.structured, req, errno(err), message)
	return nil
}
