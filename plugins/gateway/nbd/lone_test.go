package nbd_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// foreseeing is a backend that expects a FLUSH after every write of a lone client. A FLUSH says that it has arrived
// and waits while gate is set.
type foreseeing struct {
	*nbdtest.Memory
	aheads, alone atomic.Int64
	begun         chan struct{} // of each FLUSH ahead
	gate          atomic.Bool
	arrived, open chan struct{}
}

var _ nbd.LoneWriter = (*foreseeing)(nil)

func newForeseeing() *foreseeing {
	return &foreseeing{
		Memory: nbdtest.NewMemory(mib), begun: make(chan struct{}, 1000),
		arrived: make(chan struct{}), open: make(chan struct{}),
	}
}

func (f *foreseeing) TryWriteAlone(p []byte, off uint64) (done, due bool) {
	f.alone.Add(1)
	return f.TryWriteAt(p, off), true
}

func (f *foreseeing) FlushAhead() {
	f.aheads.Add(1)
	f.begun <- struct{}{}
}

func (f *foreseeing) Flush(ctx context.Context) error {
	if f.gate.Load() {
		f.arrived <- struct{}{}
		<-f.open
	}
	return f.Memory.Flush(ctx)
}

// TestLoneClient sends one request at a time until the server relies on it, and then two at once: the second may wait
// for the first FLUSH, which the reader carries out, but not for the next one.
func TestLoneClient(t *testing.T) {
	f := newForeseeing()
	c := serve(t, f).dial(t, nbdtest.Options{})
	for range 20 {
		check(t, c.Write(0, []byte("x"), false))
		check(t, c.Flush())
	}
	f.gate.Store(true)
	both := func() (flush, read uint64) {
		flush = must[uint64](t)(c.Send(nbdtest.Request{Cmd: 3}))
		<-f.arrived
		return flush, must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Len: 1}))
	}
	flush, read := both()
	f.open <- struct{}{}
	for _, want := range []uint64{flush, read} {
		if r := must[nbdtest.Reply](t)(c.Recv()); r.Cookie != want || r.Err != nil {
			t.Fatalf("reply to %d (%v), want to %d", r.Cookie, r.Err, want)
		}
	}
	for range 3 {
		check(t, c.Write(0, []byte("x"), false)) // few enough for the server to remember
		flush, read = both()
		if r := must[nbdtest.Reply](t)(c.Recv()); r.Cookie != read {
			t.Fatal("a read waits for a FLUSH of a client that is known to send more than one request")
		}
		f.open <- struct{}{}
		if r := must[nbdtest.Reply](t)(c.Recv()); r.Cookie != flush {
			t.Fatal("the FLUSH was not answered")
		}
	}
}

// TestFlushAhead has the server begin what the client is about to ask for, until it does not ask.
func TestFlushAhead(t *testing.T) {
	f := newForeseeing()
	c := serve(t, f).dial(t, nbdtest.Options{})
	for range 20 {
		check(t, c.Write(0, []byte("x"), false))
		check(t, c.Flush())
	}
	check(t, c.Write(0, []byte("x"), false))
	alone := f.alone.Load()
	if alone == 0 {
		t.Fatal("a client that waits for each reply is not taken for a lone one")
	}
	for range alone { // each of its writes is followed by a FLUSH ahead, the last when its reply has left
		<-f.begun
	}
	n := f.aheads.Load()
	for range 100 {
		check(t, c.Write(0, []byte("x"), false))
	}
	check(t, c.Flush())
	if now := f.aheads.Load(); now > n+1 {
		t.Errorf("%d flushes ahead of a client that does not flush", now-n)
	}
}
