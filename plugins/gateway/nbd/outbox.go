package nbd

import (
	"io"
	"net"
	"sync"
)

// outboxSoft is how many bytes may wait to be sent before the reader of a connection stops
// doing work inline. Parked requests are limited by their budget instead.
const outboxSoft = 256 << 10

// sendPiece is the longest send that is not looked at in between.
const sendPiece = 512 << 10

// outbox sends replies from many goroutines over one connection. Whoever finds nobody
// sending becomes the sender and takes along what the others add meanwhile, so that replies
// which become ready together leave in one system call without a goroutine waiting for them.
type outbox struct {
	dst    io.Writer
	budget *budget     // what the parked requests hold until they are sent
	fail   func(error) // called once, without the lock, when sending fails

	mu      sync.Mutex
	changed sync.Cond // on mu: sent something, or failed
	queue   []segment
	spare   []segment // the array of the queue before, to be used again
	queued  int       // bytes in queue
	sending bool
	err     error

	moved motion // sends, and those that have ended

	vec net.Buffers // the sender's
	iov net.Buffers
}

// segment is one buffer to send and what is given back once it has left.
type segment struct {
	buf   *buffer
	small bool // collects short replies, has room for more
	ops   int
	bytes int
}

func (q *outbox) init(dst io.Writer, b *budget, fail func(error)) {
	q.dst, q.budget, q.fail = dst, b, fail
	q.changed.L = &q.mu
}

// put sends a buffer, which then belongs to the outbox. ops and bytes are given back to the
// budget when it has left or never will.
func (q *outbox) put(buf *buffer, ops, bytes int) {
	q.mu.Lock()
	q.queue = append(q.queue, segment{buf: buf, ops: ops, bytes: bytes})
	q.queued += len(buf.b)
	q.send()
}

// putShort sends a copy of a short reply of a parked request.
func (q *outbox) putShort(reply []byte, ops, bytes int) {
	q.mu.Lock()
	last := len(q.queue) - 1
	if last < 0 || !q.queue[last].small || cap(q.queue[last].buf.b)-len(q.queue[last].buf.b) < len(reply) {
		buf := getBuffer(0)
		q.queue = append(q.queue, segment{buf: buf, small: true})
		last++
	}
	s := &q.queue[last]
	s.buf.b = append(s.buf.b, reply...)
	s.ops += ops
	s.bytes += bytes
	q.queued += len(reply)
	q.send()
}

// send empties the queue unless someone else does already. It is called with the lock and
// returns without.
func (q *outbox) send() {
	if q.sending {
		q.mu.Unlock()
		return
	}
	q.sending = true
	var failed error
	for len(q.queue) > 0 {
		batch, err := q.queue, q.err
		q.queue, q.spare, q.queued = q.spare[:0], nil, 0
		q.mu.Unlock()
		if err == nil {
			err = q.write(batch)
		}
		for i := range batch {
			q.budget.release(batch[i].ops, batch[i].bytes)
			batch[i].buf.free()
			batch[i].buf = nil
		}
		q.mu.Lock()
		q.spare = batch[:0]
		if err != nil && q.err == nil {
			q.err, failed = err, err
		}
		q.changed.Broadcast()
	}
	q.sending = false
	q.changed.Broadcast()
	q.mu.Unlock()
	if failed != nil {
		q.fail(failed)
	}
}

func (q *outbox) write(batch []segment) error {
	q.moved.begin()
	defer q.moved.end()
	if len(batch) == 1 {
		return q.writeLong(batch[0].buf.b)
	}
	q.vec = q.vec[:0]
	for _, s := range batch {
		q.vec = append(q.vec, s.buf.b)
	}
	q.iov = q.vec // WriteTo consumes the slice it is called on
	_, err := q.iov.WriteTo(q.dst)
	return err
}

// writeLong sends in pieces, so that one who looks sees a slow client take them.
func (q *outbox) writeLong(b []byte) error {
	for len(b) > sendPiece {
		if _, err := q.dst.Write(b[:sendPiece]); err != nil {
			return err
		}
		q.moved.step()
		b = b[sendPiece:]
	}
	_, err := q.dst.Write(b)
	return err
}

// waitRoom returns when little is waiting to be sent, or sending has failed.
func (q *outbox) waitRoom() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.queued > outboxSoft && q.err == nil {
		q.changed.Wait()
	}
}

func (q *outbox) failed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err != nil
}

// empty reports whether all that was put has left.
func (q *outbox) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.sending && q.err == nil
}

// redirect changes where an outbox that is empty sends to.
func (q *outbox) redirect(dst io.Writer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dst = dst
}

// waitEmpty returns when all that was put has left, or never will.
func (q *outbox) waitEmpty() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.sending {
		q.changed.Wait()
	}
}
