package nbd

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxParked and maxParkedBytes bound what one connection can have waiting, allParkedBytes what all of a listener
	// can together.
	maxParked      = 128
	maxParkedBytes = 64 << 20
	allParkedBytes = 256 << 20
	// batchSize is how much the reader collects before it sends; a read of more than half of
	// it does not share a batch with others.
	batchSize = 128 << 10
	inlineMax = batchSize / 2
	// pieceSize is how much of a longer one is read and sent at a time, where a reply may have several chunks. Batches
	// have room for it and its header.
	pieceSize = batchSize
)

var (
	errDisconnect = errors.New("client disconnected") // by NBD_CMD_DISC
	errGone       = errors.New("client closed the connection without disconnecting")
	errStopping   = errors.New("server is stopping")
	errTorn       = errors.New("server is stopping, in the middle of a request")
)

// session is the transmission phase of one connection.
type session struct {
	link      *link
	nc        net.Conn // the link's, or TLS over it
	crew      *crew    // nil if the client has to do without
	backend   Backend
	stats     *Stats
	admission Admission  // nil if all may write
	fastRead  FastReader // nil if the backend has none
	fastWrite FastWriter
	loneWrite LoneWriter
	lim       limits
	stopping  *atomic.Bool
	giveUp    context.CancelCauseFunc // ends what waits
	payload   motion                  // of the data of WRITEs for which room was taken

	// The reader's own.
	rd       *reader
	inside   bool    // of a request whose header has been read
	extended bool    // late has given more time once
	batch    *buffer // replies of inline work, not yet sent; nil when there are none
	tally    tally
	lone     lone
	workers  int

	out    outbox
	parked budget
	tasks  chan task
	wg     sync.WaitGroup
}

// task is a parked request. buf is the data of a WRITE, the reply of a READ, or nil.
type task struct {
	req   request
	done  int // bytes of a WRITE that were written already
	buf   *buffer
	cost  int // bytes taken from the budget
	start time.Time
}

func newSession(l *link, nc net.Conn, rd *reader, h *handshake, stopping *atomic.Bool, shared *memory) *session {
	s := &session{
		link: l, nc: nc, rd: rd, backend: h.chosen.Backend, stats: h.chosen.Stats(),
		lim: h.chosen.limits(), stopping: stopping, tasks: make(chan task),
	}
	s.lim.structured, s.lim.selected = h.structured, h.selected
	s.fastRead, _ = s.backend.(FastReader)
	s.fastWrite, _ = s.backend.(FastWriter)
	s.loneWrite, _ = s.backend.(LoneWriter)
	rd.grow(readerFirst)
	rd.late, rd.moved = s.late, &s.payload
	rd.spill.link, rd.spill.all = l, &shared.spilt
	s.lone.init(nc)
	s.parked.init(maxParked, maxParkedBytes, shared)
	// A connection that cannot be written to is of no use to read from: closing it wakes the reader.
	s.out.init(nc, &s.parked, func(error) { l.drop() })
	return s
}

// run serves until the client leaves, breaks the protocol, or the server stops. When it
// returns nothing of the connection is in flight. The error says why it ended.
func (s *session) run(ctx context.Context) error {
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	s.giveUp = giveUp
	s.link.onEnd(giveUp)
	err := s.read(ctx)
	if !errors.Is(err, errDisconnect) && !errors.Is(err, errStopping) && !errors.Is(err, errTorn) {
		// The client is gone and cannot learn the outcome: let what waits give up, before the client comes again and
		// writes something newer.
		giveUp(err)
	}
	s.flush()
	s.parked.waitIdle()
	close(s.tasks)
	s.wg.Wait()
	s.out.waitEmpty()
	return err
}

// read takes requests off the connection until it ends. What was spilled is served also when the server stops: it is too
// much to be handed on.
func (s *session) read(ctx context.Context) error {
	for {
		if s.stopping.Load() && s.rd.spill.n == 0 {
			return errStopping
		}
		// Replies leave as soon as the next step would have to wait for the client.
		if s.rd.buffered() < requestLen {
			s.flush()
			s.tally.end()
			if s.crew != nil && s.lone.isCommitting() && s.quiet() {
				if err := s.enlist(); err != nil {
					return s.ended(err)
				}
				continue
			}
		}
		hdr, err := s.rd.next(requestLen)
		if err != nil {
			return s.ended(err)
		}
		req, err := parseRequest(hdr)
		if err != nil {
			return err
		}
		s.inside = true
		if err := s.serve(ctx, req); err != nil {
			if s.stopping.Load() && !errors.Is(err, errDisconnect) {
				return errTorn
			}
			return s.ended(err)
		}
		s.inside = false
	}
}

// quiet reports whether nothing is under way, in either direction.
func (s *session) quiet() bool {
	return s.rd.buffered() == 0 && s.batch == nil && !s.parked.busy() && s.out.empty()
}

// enlist has the crew serve the client until it asks for something that is not for a crew.
func (s *session) enlist() error {
	s.lone.commits = 0 // it counts anew afterwards
	fd, err := s.link.lend()
	if err != nil {
		s.crew = nil // out of descriptors: the client is served as well without
		return nil
	}
	served := s.crew.serve(s, fd)
	nc, err := s.link.reclaim()
	if err != nil {
		return err
	}
	if served != nil {
		s.crew = nil
	}
	s.nc, s.rd.src = nc, nc
	s.out.redirect(nc)
	s.lone.init(nc)
	return nil
}

// late gives the rest of a request's data some time when the server is stopped in the middle of it.
func (s *session) late() bool {
	if !s.inside || s.extended {
		return false
	}
	s.extended = true
	return s.nc.SetReadDeadline(time.Now().Add(payloadGrace)) == nil
}

// ended names the ends of a connection that are no fault of the protocol.
func (s *session) ended(err error) error {
	switch {
	case s.stopping.Load():
		return errStopping
	case errors.Is(err, io.EOF):
		return errGone
	}
	return err
}

// serve does one request inline or parks it.
func (s *session) serve(ctx context.Context, req request) error {
	start := s.tally.arrived()
	s.lone.arrived(req, s.batch != nil || s.parked.busy())
	data, err := s.lim.payload(req)
	if err != nil {
		return err
	}
	s.lim.size = s.backend.Size()
	if code := s.lim.check(req); code != 0 {
		if err := s.skip(data); err != nil {
			return err
		}
		return s.refuse(req, code, "request refused: bad range, flags or access")
	}
	switch {
	case req.cmd == CmdDisc:
		return errDisconnect
	case req.cmd == CmdWrite:
		return s.write(ctx, req, start)
	case req.n == 0 && req.cmd != CmdFlush:
		return s.inlineDone(req) // nothing to do is done
	case req.cmd == CmdRead:
		return s.readData(ctx, req, start)
	case req.cmd == CmdFlush && s.lone.is() && s.rd.buffered() == 0:
		return s.flushLone(ctx, req, start)
	}
	return s.park(ctx, task{req: req, cost: s.lim.status(req), start: start})
}

// skip drops the data of a refused WRITE.
func (s *session) skip(n uint32) error {
	for n > 0 {
		k := min(n, uint32(len(s.rd.buf)))
		if _, err := s.rd.next(int(k)); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// refuse answers a request that never reaches the backend.
func (s *session) refuse(req request, code uint32, why string) error {
	if int(req.cmd) < len(s.stats.commands) {
		s.stats.commands[req.cmd].record(0, 0, true)
	}
	b := s.room(simpleLen + structuredLen + maxErrorMessage)
	b.b = appendDone(b.b, s.lim.structured, req, code, why)
	return nil
}

func (s *session) inlineDone(req request) error {
	b := s.room(structuredLen)
	b.b = appendDone(b.b, s.lim.structured, req, 0, "")
	if req.cmd <= CmdWrite {
		s.tally.add(req.cmd, req.n)
	} else {
		s.count(req, s.tally.began, false)
	}
	return nil
}

// room returns the batch with space for n more bytes.
func (s *session) room(n int) *buffer {
	if s.batch != nil && cap(s.batch.b)-len(s.batch.b) < n {
		s.flush()
	}
	if s.batch == nil {
		s.batch = getBuffer(batchSize)
		s.batch.b = s.batch.b[:0]
	}
	return s.batch
}

// flush sends the batch. It waits while much is waiting already, which is what stops the reader
// of a client that does not read its replies.
func (s *session) flush() {
	s.tally.settle(s.stats)
	if s.batch == nil {
		return
	}
	b := s.batch
	s.batch = nil
	if len(b.b) == 0 {
		b.free()
		return
	}
	s.out.put(b, 0, 0)
	s.out.waitRoom()
}

func (s *session) count(req request, start time.Time, failed bool) {
	s.stats.commands[req.cmd].record(req.n, time.Since(start), failed)
}
