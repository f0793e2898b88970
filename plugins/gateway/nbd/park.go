package nbd

import (
	"context"
)

// acquire takes room for one parked request. Before it waits, finished replies are sent: the
// client may need them to go on. While it waits nobody reads, so it is looked whether the client hangs up.
func (s *session) acquire(ctx context.Context, bytes int) error {
	if s.parked.tryAcquire(bytes) {
		return nil
	}
	s.flush()
	defer s.watchHangUp()()
	return s.parked.acquire(ctx, bytes)
}

// park hands a request to a goroutine that may wait, when there is room for one more.
func (s *session) park(ctx context.Context, t task) error {
	if err := s.acquire(ctx, t.cost); err != nil {
		return err
	}
	s.start(ctx, t)
	return nil
}

// start runs a task whose room is taken. Goroutines stay for the next task, because under load
// one is needed for every request of a backend that cannot answer at once.
func (s *session) start(ctx context.Context, t task) {
	s.stats.parked.Add(1)
	select {
	case s.tasks <- t:
		return
	default:
	}
	if s.workers == maxParked {
		s.tasks <- t
		return
	}
	s.workers++
	s.wg.Add(1)
	go s.work(ctx, t)
}

func (s *session) work(ctx context.Context, t task) {
	defer s.wg.Done()
	for ok := true; ok; t, ok = <-s.tasks {
		s.perform(ctx, t)
	}
}

// perform does one parked request and sends its reply, which gives its room back.
func (s *session) perform(ctx context.Context, t task) {
	req := t.req
	var err error
	switch req.cmd {
	case CmdRead:
		if err = s.backend.ReadAt(ctx, t.buf.b[readHeaderLen(s.lim.structured):], req.off); err == nil {
			s.performed(t, s.finishRead(req, t.buf))
			return
		}
	case CmdWrite, CmdTrim, CmdWriteZeroes:
		err = s.change(ctx, t)
	case CmdFlush:
		err = s.backend.Flush(ctx)
	case CmdCache:
		err = s.backend.(Cacher).Cache(ctx, req.off, uint64(req.n))
	case CmdBlockStatus:
		var buf *buffer
		if buf, err = s.status(ctx, req); err == nil {
			s.performed(t, buf)
			return
		}
	}
	t.buf.free()
	var message string
	if err != nil {
		message = err.Error()
	}
	s.stats.parked.Add(-1)
	s.count(req, t.start, err != nil)
	var short [structuredLen + 6 + maxErrorMessage]byte
	s.out.putShort(appendDone(short[:0], s.lim.structured, req, errno(err), message), 1, t.cost)
}

// change does one operation that changes data, if the connection is admitted to.
func (s *session) change(ctx context.Context, t task) error {
	if err := ctx.Err(); err != nil {
		return err // others may have written there since
	}
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	req, fua := t.req, t.req.flags&cmdFUA != 0
	switch {
	case req.cmd == CmdTrim:
		return s.backend.Trim(ctx, req.off, uint64(req.n), fua)
	case req.cmd == CmdWriteZeroes:
		return s.backend.WriteZeroes(ctx, req.off, uint64(req.n), zeroFlags(req.flags))
	case len(t.buf.b) > 0:
		return s.backend.WriteAt(ctx, t.buf.b, req.off+uint64(t.done), fua)
	}
	return nil // an empty write with FUA
}

// status answers BLOCK_STATUS in every context that the client selected, a chunk for each.
func (s *session) status(ctx context.Context, req request) (*buffer, error) {
	n, one := uint64(req.n), req.flags&cmdReqOne != 0
	buf := getBuffer(0)
	b := buf.b[:0]
	if s.lim.selected&ctxAllocation != 0 {
		extents, err := s.backend.BlockStatus(ctx, req.off, n, one)
		if err != nil {
			buf.free()
			return nil, err
		}
		b = appendStatus(b, req, contextNames[0].id, s.lim.selected == ctxAllocation, extents)
	}
	if s.lim.selected&ctxState != 0 {
		extents, err := s.backend.(StateReporter).StateOf(ctx, req.off, n, one)
		if err != nil {
			buf.free()
			return nil, err
		}
		b = appendStatus(b, req, contextNames[1].id, true, extents)
	}
	if cap(b) == cap(buf.b) {
		buf.b = b
		return buf, nil
	}
	// It grew beyond the buffer: a pooled one of the right class takes its place.
	buf.free()
	buf = getBuffer(len(b))
	copy(buf.b, b)
	return buf, nil
}

// performed sends a reply that carries data.
func (s *session) performed(t task, reply *buffer) {
	s.stats.parked.Add(-1)
	s.count(t.req, t.start, false)
	s.out.put(reply, 1, t.cost)
}

func zeroFlags(f uint16) ZeroFlags {
	var z ZeroFlags
	if f&cmdFUA != 0 {
		z |= ZeroFUA
	}
	if f&cmdNoHole != 0 {
		z |= ZeroNoHole
	}
	if f&cmdFastZero != 0 {
		z |= ZeroFast
	}
	return z
}
