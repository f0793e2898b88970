package nbd

import (
	"net"
	"slices"
	"sync/atomic"
)

const (
	// maxSpilled is what one connection can have in its spill: all that Linux's client has under way by default, which is
	// 128 requests of 128 KiB. allSpilled is for all of a listener together.
	maxSpilled = 16 << 20
	allSpilled = 64 << 20
	// spillPiece is how much memory is taken and given back at once.
	spillPiece = 64 << 10
)

// spill is what was taken off a socket while nobody read, so that the end behind it can come: a client's FIN follows its
// data, and TCP keeps both at the client while the receive window is full. The reader consumes it before the socket.
// One at a time may use it.
type spill struct {
	link   *link
	all    *atomic.Int64 // bytes of the pieces of all connections of the listener
	pieces []*buffer
	r      int  // bytes of the first piece that have been consumed
	n      int  // bytes in all
	gone   bool // the client hung up: what it left is not for anybody
}

// drain takes what a socket holds, as far as there is room. It never waits.
func (sp *spill) drain(fd int) {
	for p := sp.open(); p != nil; p = sp.open() {
		k, _ := receive(fd, p.b[len(p.b):spillPiece])
		p.b, sp.n = p.b[:len(p.b)+k], sp.n+k
		if len(p.b) == 0 {
			sp.free(len(sp.pieces) - 1)
		}
		if k == 0 {
			return
		}
	}
}

// open returns the last piece if it has room, or one more, or nil where a bound is reached.
func (sp *spill) open() *buffer {
	if k := len(sp.pieces); k > 0 && len(sp.pieces[k-1].b) < spillPiece {
		return sp.pieces[k-1]
	}
	if len(sp.pieces) == maxSpilled/spillPiece {
		return nil
	}
	if sp.all.Add(spillPiece) > allSpilled {
		sp.all.Add(-spillPiece)
		return nil
	}
	b := getBuffer(spillPiece)
	b.b = b.b[:0]
	sp.pieces = append(sp.pieces, b)
	return b
}

// read consumes some of what is there. Of a connection that has ended nothing more is done.
func (sp *spill) read(p []byte) (int, error) {
	if sp.gone {
		return 0, errGone
	}
	if sp.link.hasEnded() {
		return 0, net.ErrClosed
	}
	first := sp.pieces[0].b
	k := copy(p, first[sp.r:])
	sp.r, sp.n = sp.r+k, sp.n-k
	if sp.r == len(first) {
		sp.r = 0
		sp.free(0)
	}
	return k, nil
}

// tail returns a copy of the last n bytes, or of all.
func (sp *spill) tail(n int) (t []byte) {
	for i, b := range slices.Backward(sp.pieces) {
		p := b.b
		if i == 0 {
			p = p[sp.r:]
		}
		t = slices.Concat(last(p, n-len(t)), t)
	}
	return t
}

func last(p []byte, n int) []byte { return p[max(0, len(p)-n):] }

// free gives one piece back.
func (sp *spill) free(i int) {
	sp.pieces[i].free()
	sp.pieces = slices.Delete(sp.pieces, i, i+1)
	sp.all.Add(-spillPiece)
}

// close gives all back.
func (sp *spill) close() {
	for len(sp.pieces) > 0 {
		sp.free(len(sp.pieces) - 1)
	}
	sp.n = 0
}
