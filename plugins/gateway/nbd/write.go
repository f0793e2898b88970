package nbd

import (
	"context"
	"time"
)

// write takes the data off the connection and acknowledges it at once if the backend can.
func (s *session) write(ctx context.Context, req request, start time.Time) error {
	if s.rd.buffered() < int(req.n) {
		s.flush()
	}
	fast := s.fastWrite != nil && req.flags&cmdFUA == 0
	if fast && int(req.n) <= len(s.rd.buf)/2 {
		// Used where it lies in the reader's buffer, also when a part of it is still on its way.
		data, err := s.rd.next(int(req.n))
		if err != nil {
			return err
		}
		if done, err := s.tryWrite(data, req.off); err != nil {
			return s.refuse(req, errno(err), err.Error())
		} else if done {
			return s.written(req)
		}
		s.acquire(int(req.n))
		buf := getBuffer(int(req.n))
		copy(buf.b, data)
		s.start(ctx, task{req: req, buf: buf, cost: int(req.n), start: start})
		return nil
	}
	if req.n == 0 && req.flags&cmdFUA == 0 {
		return s.inlineDone(req)
	}
	// Room first: the data of a client that is over its budget stays in its socket.
	s.acquire(int(req.n))
	buf := getBuffer(int(req.n))
	if err := s.rd.readFull(buf.b); err != nil {
		buf.free()
		s.parked.release(1, int(req.n))
		return err
	}
	if fast {
		done, err := s.tryWrite(buf.b, req.off)
		if done || err != nil {
			buf.free()
			s.parked.release(1, int(req.n))
		}
		if err != nil {
			return s.refuse(req, errno(err), err.Error())
		}
		if done {
			return s.written(req)
		}
	}
	s.start(ctx, task{req: req, buf: buf, cost: int(req.n), start: start})
	return nil
}

// tryWrite asks the backend to acknowledge a write at once; the error is that of admission.
func (s *session) tryWrite(data []byte, off uint64) (bool, error) {
	if len(data) == 0 {
		return true, nil
	}
	if err := s.begin(); err != nil {
		return false, err
	}
	defer s.end()
	if s.loneWrite == nil || !s.lone.is() || s.rd.buffered() > 0 {
		return s.fastWrite.TryWriteAt(data, off), nil
	}
	done, due := s.loneWrite.TryWriteAlone(data, off)
	s.lone.ahead = done && due
	return done, nil
}

// written answers a write that was acknowledged at once, and begins the FLUSH that is expected after it.
func (s *session) written(req request) error {
	if err := s.inlineDone(req); err != nil || !s.lone.ahead {
		return err
	}
	s.flush()
	s.loneWrite.FlushAhead()
	return nil
}
