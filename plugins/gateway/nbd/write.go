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
		if err := s.acquire(ctx, int(req.n)); err != nil {
			return err
		}
		buf := getBuffer(int(req.n))
		copy(buf.b, data)
		s.start(ctx, task{req: req, buf: buf, cost: int(req.n), start: start})
		return nil
	}
	if req.n == 0 && req.flags&cmdFUA == 0 {
		return s.inlineDone(req)
	}
	if fast {
		return s.writeLong(ctx, req, start)
	}
	// Room first: the data of a client that is over its budget stays in its socket.
	if err := s.acquire(ctx, int(req.n)); err != nil {
		return err
	}
	return s.parkWrite(ctx, task{req: req, cost: int(req.n), start: start}, nil)
}

// parkWrite parks a WRITE whose room is taken, when its data have come. head are the first of those that remain.
func (s *session) parkWrite(ctx context.Context, t task, head []byte) error {
	t.buf = getBuffer(int(t.req.n) - t.done)
	if err := s.takePayload(t.buf.b[copy(t.buf.b, head):]); err != nil {
		t.buf.free()
		s.parked.release(1, t.cost)
		return err
	}
	s.start(ctx, t)
	return nil
}

// takePayload reads data of a WRITE for which room was taken. Others may wait for that, so the client must go on sending.
func (s *session) takePayload(p []byte) error {
	s.payload.begin()
	defer s.payload.end()
	return s.rd.readFull(p)
}

// writePiece is how much of a long write is taken off the connection at once, in bytes: what was just copied out of the
// socket is in the processor's cache still when its checksums are computed and it is copied into the log.
const writePiece = 64 << 10

// writeLong is write for what does not fit the reader's buffer. The backend is given a piece at a time; from the first on
// that it does not take at once, the rest is parked. Until then the room is that of a piece.
func (s *session) writeLong(ctx context.Context, req request, start time.Time) error {
	size := int(req.n)
	room := min(size, writePiece)
	if err := s.acquire(ctx, room); err != nil {
		return err
	}
	buf := getBuffer(room)
	defer buf.free()
	for done := 0; done < size; {
		p := buf.b[:min(size-done, writePiece)]
		if err := s.takePayload(p); err != nil {
			s.parked.release(1, room)
			return err
		}
		taken, err := s.tryWrite(p, req.off+uint64(done))
		if taken {
			done += len(p)
			continue
		}
		// What is held is given back first: those who wait for more while they hold some could wait for each other.
		s.parked.release(1, room)
		if err != nil {
			if err := s.skip(uint32(size - done - len(p))); err != nil {
				return err
			}
			return s.refuse(req, errno(err), err.Error())
		}
		t := task{req: req, done: done, cost: size - done, start: start}
		if err := s.acquire(ctx, t.cost); err != nil {
			return err
		}
		return s.parkWrite(ctx, t, p)
	}
	s.parked.release(1, room)
	return s.written(req)
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
