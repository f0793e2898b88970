package nbd

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// crewAfter is how many requests in a row must have been such that a crew serves them before the client is given to it.
	crewAfter = 16
	// crewIdle is how long a crew waits for its clients before it gives them back. It is also how long it may take
	// to find out that the server stops.
	crewIdle = 50 * time.Millisecond
)

// crew serves the clients of an export that make each write durable before they send the next: logs of databases,
// journals, fsync in a loop. With a goroutine for each, most of what such a pair of requests costs is threads that wake
// each other. Here one goroutine takes what has come from all, makes it durable with one Flush, and answers. The answer to
// a WRITE can wait for the Flush under way, for which the FLUSH after it would have waited in its place; a client that
// asks for anything else is given back to its own goroutine.
//
// A second goroutine, which would take requests while the first waits for the disk, was tried: it needs a wake-up for
// each Flush, the Flushes become smaller, and on two processors nothing is gained.
type crew struct {
	ctx      context.Context // of Flush
	backend  Backend
	write    LoneWriter
	stopping *atomic.Bool
	users    int // sessions that may come to it, under the mutex of run

	mu      sync.Mutex
	poll    *poller // nil while it has no members
	members map[int32]*member

	// The goroutine's own.
	now     time.Time // when the last requests came
	pending []*member // that wait for the next Flush
}

// member is a client in a crew, which has its session meanwhile.
type member struct {
	s     *session
	fd    int
	left  chan struct{} // closed when it is given back
	req   request       // that waits for a Flush
	start time.Time
	waits bool
	hasty bool // sent more, or left, before it had its answer
}

// crew returns that of an export for one more session, or nil for a backend that cannot do without waiting what a crew does.
func (r *run) crew(ctx context.Context, e *Export) *crew {
	w, ok := e.Backend.(LoneWriter)
	if !ok {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.crews[e.Stats()]
	if c == nil {
		c = &crew{ctx: ctx, backend: e.Backend, write: w, stopping: &r.stopping, members: make(map[int32]*member)}
		r.crews[e.Stats()] = c
	}
	c.users++
	return c
}

// without tells that a session is over that could come to a crew.
func (r *run) without(c *crew, e *Export) {
	if c == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.users--; c.users == 0 {
		delete(r.crews, e.Stats())
	}
}

// serve has the crew serve s, whose socket is fd, until it gives it back. What has been received and not answered is in
// the session's reader then.
func (c *crew) serve(s *session, fd int) error {
	m := &member{s: s, fd: fd, left: make(chan struct{})}
	if err := c.join(m); err != nil {
		return err
	}
	<-m.left
	return nil
}

func (c *crew) join(m *member) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.poll == nil
	if first {
		p, err := newPoller()
		if err != nil {
			return err
		}
		c.poll = p
	}
	if err := c.poll.add(m.fd); err != nil {
		if first {
			c.poll.close()
			c.poll = nil
		}
		return err
	}
	c.members[int32(m.fd)] = m
	if first {
		go c.run(c.poll)
	}
	return nil
}

// run does what members ask for until there are none.
func (c *crew) run(p *poller) {
	for c.wanted() {
		wait := crewIdle
		if len(c.pending) > 0 {
			wait = 0
		}
		ready, err := p.ready(wait)
		c.now = time.Now()
		for _, e := range ready {
			if m := c.member(e.Fd); m != nil {
				c.stir(m, e.Events)
			}
		}
		if len(ready) > 0 {
			continue // more may have come
		}
		idle := len(c.pending) == 0
		c.commit()
		if idle || err != nil || c.stopping.Load() {
			c.dismiss()
		}
	}
}

// wanted reports whether there are members. Without, the poller is closed; the next member begins anew.
func (c *crew) wanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) > 0 {
		return true
	}
	c.poll.close()
	c.poll = nil
	return false
}

func (c *crew) member(fd int32) *member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[fd]
}

func (c *crew) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.members)
}

// release gives a member back to its own goroutine.
func (c *crew) release(m *member) {
	c.mu.Lock()
	c.poll.remove(m.fd)
	delete(c.members, int32(m.fd))
	c.mu.Unlock()
	close(m.left)
}

// dismiss gives all back. None waits for a Flush.
func (c *crew) dismiss() {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.members))
	c.mu.Unlock()
	for _, m := range all {
		c.release(m)
	}
}

// stir looks after a member of whom the poller has told. It tells once of what came, so nothing may be forgotten.
func (c *crew) stir(m *member, events uint32) {
	if !m.waits {
		c.receive(m)
		return
	}
	// What has been read already may be told of once more.
	m.hasty = m.hasty || events&^unix.EPOLLIN != 0 || unread(m.fd)
}

// receive reads what a member has sent and does it, or gives the member back with it.
func (c *crew) receive(m *member) {
	rd := m.s.rd
	if !rd.receive(m.fd) {
		c.release(m)
		return
	}
	have := rd.buf[rd.r:rd.w]
	if len(have) < requestLen {
		return // the rest is on its way
	}
	req, err := parseRequest(have)
	if err != nil || !m.s.commits(req) {
		c.release(m)
		return
	}
	need := requestLen
	if req.cmd == CmdWrite {
		need += int(req.n)
	}
	switch {
	case len(have) < need && need < len(rd.buf):
		// the rest is on its way
	case len(have) != need || !c.do(m, req, have[requestLen:]):
		c.release(m)
	}
}

// commits reports whether a request is one for a crew, and nothing is wrong with it.
func (s *session) commits(req request) bool {
	if !s.lone.expects(req) {
		return false
	}
	s.lim.size = s.backend.Size()
	return s.lim.check(req) == 0
}

// do carries a request out as far as that needs no Flush. After false it is as if nothing of it had been done, but for a
// part of the data of a WRITE, which will be written again.
func (c *crew) do(m *member, req request, data []byte) bool {
	due := false
	if req.cmd == CmdWrite {
		if m.s.begin() != nil {
			return false
		}
		var done bool
		done, due = c.write.TryWriteAlone(data, req.off)
		m.s.end()
		if !done {
			return false
		}
	}
	m.s.rd.consume(requestLen + len(data))
	m.s.lone.arrived(req, false)
	if m.s.lone.open { // a WRITE that a FLUSH will follow
		m.s.count(req, c.now, false)
		if c.reply(m, req, nil) && due && c.size() == 1 {
			m.s.lone.ahead = true
			c.write.FlushAhead()
		}
		return true
	}
	m.req, m.start, m.waits = req, c.now, true
	c.pending = append(c.pending, m)
	return true
}

// commit makes durable what was written, and answers those who wait for that.
func (c *crew) commit() {
	if len(c.pending) == 0 {
		return
	}
	parked := &c.pending[0].s.stats.parked
	parked.Add(int64(len(c.pending)))
	err := c.backend.Flush(c.ctx)
	parked.Add(-int64(len(c.pending)))
	for _, m := range c.pending {
		m.waits = false
		m.s.count(m.req, m.start, err != nil)
		if c.reply(m, m.req, err) && m.hasty {
			m.s.lone.row = -lonePenalty
			c.release(m)
		}
	}
	clear(c.pending)
	c.pending = c.pending[:0]
}

// reply answers a member. After false it was given back, with what its socket did not take.
func (c *crew) reply(m *member, req request, err error) bool {
	var short [structuredLen + 6 + maxErrorMessage]byte
	var message string
	if err != nil {
		message = err.Error()
	}
	p := appendDone(short[:0], m.s.lim.structured, req, errno(err), message)
	n, err := send(m.fd, p)
	if n == len(p) {
		return true
	}
	if err == nil || errors.Is(err, unix.EAGAIN) {
		b := m.s.room(len(p) - n)
		b.b = append(b.b, p[n:]...)
	}
	c.release(m)
	return false
}
