package nbd

import (
	"context"
	"time"
)

// readData answers from memory as far as the backend can, and parks the rest.
func (s *session) readData(ctx context.Context, req request, start time.Time) error {
	whole := req.n
	try := s.fastRead != nil
	switch {
	case !try:
	case req.n <= inlineMax:
		if try = s.readInline(req); try {
			req.n = 0
		}
	case s.lim.structured && req.flags&cmdDF == 0:
		try, req = false, s.readPieces(req)
	}
	if req.n == 0 {
		s.tally.add(req.cmd, whole)
		return nil
	}
	s.stats.commands[req.cmd].bytes.Add(uint64(whole - req.n)) // the operation is counted with the rest
	head := readHeaderLen(s.lim.structured)
	cost := head + int(req.n)
	if err := s.acquire(ctx, cost); err != nil {
		return err
	}
	buf := getBuffer(cost)
	if try && s.fastRead.TryReadAt(buf.b[head:], req.off) {
		s.flush() // keeps replies to one client roughly in order
		s.count(req, start, false)
		s.out.put(s.finishRead(req, buf), 1, cost)
		s.out.waitRoom()
		return nil
	}
	s.start(ctx, task{req: req, buf: buf, cost: cost, start: start})
	return nil
}

// readInline adds the reply to a READ to the batch if the backend has the data at hand.
func (s *session) readInline(req request) bool {
	data := s.readBatch(req)
	if data != nil {
		s.reply(req, data)
	}
	return data != nil
}

// readBatch reads to the end of the batch, behind room for a header, what is at hand. It returns nil if it is not.
func (s *session) readBatch(req request) []byte {
	n := readHeaderLen(s.lim.structured) + int(req.n)
	b := s.room(n)
	at := len(b.b)
	b.b = b.b[:at+n]
	data := b.b[at+n-int(req.n):]
	if !s.fastRead.TryReadAt(data, req.off) {
		b.b = b.b[:at]
		return nil
	}
	return data
}

// reply makes the data at the end of the batch an answer.
func (s *session) reply(req request, data []byte) {
	b := s.batch
	at := len(b.b) - len(data) - readHeaderLen(s.lim.structured)
	if s.sparse(req, data) {
		// Shorter than what stands there: it is built aside and moved over.
		tmp := getBuffer(0)
		tmp.b = appendSparse(tmp.b, req, data)
		b.b = append(b.b[:at], tmp.b...)
		tmp.free()
		return
	}
	readHeader(b.b[:at], s.lim.structured, req)
}

// readPieces answers a long READ piece by piece, each a chunk or more of the reply, and returns what is left of it where
// the backend would have to wait. A piece is sent out of the processor's cache, and while the client takes it from its
// socket the next one is read. Pieces that are zero are told as one hole, when it is known where that ends.
func (s *session) readPieces(req request) (rest request) {
	hole := request{cmd: req.cmd, cookie: req.cookie, part: true}
	rest = req
	for rest.n > 0 {
		piece := rest
		piece.n = min(rest.n, pieceSize)
		data := s.readBatch(piece)
		if data == nil {
			break
		}
		rest.off, rest.n = rest.off+uint64(piece.n), rest.n-piece.n
		if allZero(data) {
			s.batch.b = s.batch.b[:len(s.batch.b)-len(data)-offsetDataLen]
			if hole.n == 0 {
				hole.off = piece.off
			}
			hole.n += piece.n
			continue
		}
		// Only the last chunk has a place of its own; the hole before this piece may follow it.
		piece.part = rest.n > 0 || hole.n > 0
		s.reply(piece, data)
		s.replyHole(&hole, rest.n == 0)
	}
	s.replyHole(&hole, rest.n == 0)
	if rest.n > 0 {
		s.flush() // what ends the reply is sent by another
	}
	return rest
}

// replyHole tells of a hole, if there is one, and empties it.
func (s *session) replyHole(hole *request, last bool) {
	if hole.n == 0 {
		return
	}
	hole.part = !last
	b := s.room(offsetHoleLen)
	b.b = appendHole(b.b, hole.lastChunk(), hole.cookie, hole.off, hole.n)
	hole.n = 0
}

// sparse reports whether a read is answered with holes.
func (s *session) sparse(req request, data []byte) bool {
	return s.lim.structured && hasHole(data, req.flags&cmdDF != 0)
}

// finishRead turns a buffer whose data has been read, behind room for the header, into the
// reply. It returns buf or the buffer that takes its place.
func (s *session) finishRead(req request, buf *buffer) *buffer {
	head := readHeaderLen(s.lim.structured)
	data := buf.b[head:]
	if s.sparse(req, data) {
		out := getBuffer(len(buf.b))
		out.b = appendSparse(out.b[:0], req, data)
		buf.free()
		return out
	}
	readHeader(buf.b[:0], s.lim.structured, req)
	return buf
}
