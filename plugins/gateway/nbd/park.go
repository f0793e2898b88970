package nbd

import (
	"context"
)

// acquire takes room for one parked request. Before it waits, finished replies are sent: the
// client may need them to go on.
func (s *session) acquire(bytes int) {
	if s.parked.tryAcquire(bytes) {
		return
	}
	s.flush()
	s.parked.acquire(bytes)
}

// park hands a request to a goroutine that may wait, when there is room for one more.
func (s *session) park(ctx context.Context, t task) {
	s.acquire(t.cost)
	s.start(ctx, t)
}

// start runs a task whose room is taken. Goroutines stay for the next task, because under load
// one is needed for every request of a backend that cannot answer at once.
func (s *session) start(ctx context.Context, t task) {
	s.export.stats.parked.Add(1)
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
	var extents []Extent
	switch req.cmd {
	case CmdRead:
		if err = s.backend.ReadAt(ctx, t.buf.b[readHeaderLen(s.lim.structured):], req.off); err == nil {
			buf := s.finishRead(req, t.buf)
			s.performed(t, false)
			s.out.put(buf, 1, t.cost)
			return
		}
	case CmdWrite:
		if len(t.buf.b) > 0 {
			err = s.backend.WriteAt(ctx, t.buf.b, req.off, req.flags&cmdFUA != 0)
		}
	case CmdFlush:
		err = s.backend.Flush(ctx)
	case CmdTrim:
		err = s.backend.Trim(ctx, req.off, uint64(req.n), req.flags&cmdFUA != 0)
	case CmdWriteZeroes:
		err = s.backend.WriteZeroes(ctx, req.off, uint64(req.n), zeroFlags(req.flags))
	case CmdCache:
		err = s.backend.(Cacher).Cache(ctx, req.off, uint64(req.n))
	case CmdBlockStatus:
		extents, err = s.backend.BlockStatus(ctx, req.off, uint64(req.n), req.flags&cmdReqOne != 0)
	}
	t.buf.free()
	if req.cmd == CmdBlockStatus && err == nil {
		buf := getBuffer(structuredLen + 4 + extentDescriptor*min(len(extents)+1, maxExtents))
		b, ok := appendStatus(buf.b[:0], req, extents)
		if !ok { // a backend that says nothing: allocated data is always a true answer
			b, _ = appendStatus(buf.b[:0], req, []Extent{{Len: uint64(req.n)}})
		}
		buf.b = b
		s.performed(t, false)
		s.out.put(buf, 1, t.cost)
		return
	}
	s.performed(t, err != nil)
	var message string
	if err != nil {
		message = err.Error()
	}
	var short [structuredLen + 6 + maxErrorMessage]byte
	s.out.putShort(appendDone(short[:0], s.lim.structured, req, errno(err), message), 1, t.cost)
}

func (s *session) performed(t task, failed bool) {
	s.export.stats.parked.Add(-1)
	s.count(t.req, t.start, failed)
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
