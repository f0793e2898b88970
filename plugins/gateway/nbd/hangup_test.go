package nbd_test

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// full is a volume without room: writes wait until there is some, or their client is gone.
type full struct {
	nbdtest.Slow
	m       *nbdtest.Memory
	waiting atomic.Int64
	room    chan struct{} // closed when there is
}

func newFull() *full {
	m := nbdtest.NewMemory(64 * mib)
	return &full{Slow: nbdtest.Slow{Backend: m}, m: m, room: make(chan struct{})}
}

func (f *full) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	f.waiting.Add(1)
	defer f.waiting.Add(-1)
	select {
	case <-f.room:
		return f.m.WriteAt(ctx, p, off, fua)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestNothingComesAfterItsClient: writes that wait are given up when their client leaves or is cut off, although the
// server does not read from it, and do not come after what is written there since.
func TestNothingComesAfterItsClient(t *testing.T) {
	for name, tc := range map[string]struct {
		memory int // of the server, 0 for enough
		parked int64
		leave  func(conn net.Conn, expel func())
	}{
		"closed":                  {0, 128, func(conn net.Conn, _ func()) { conn.Close() }},
		"half closed":             {0, 128, func(conn net.Conn, _ func()) { conn.(*net.UnixConn).CloseWrite() }},
		"cut off":                 {0, 128, func(_ net.Conn, expel func()) { expel() }},
		"closed, without memory":  {2 * mib, 4, func(conn net.Conn, _ func()) { conn.Close() }},
		"cut off, without memory": {2 * mib, 4, func(_ net.Conn, expel func()) { expel() }},
	} {
		t.Run(name, func(t *testing.T) {
			f, expel := newFull(), make(chan func(), 1)
			srv := serve(t, f, func(s *nbd.Server, e *nbd.Export) {
				s.MaxMemory = tc.memory
				e.Admit = func(fn func()) nbd.Admission {
					expel <- fn
					return anyone{}
				}
			})
			size := 512
			if tc.memory > 0 { // a part of it is taken by somebody else
				size = tc.memory / 8
				other := srv.dial(t, nbdtest.Options{})
				must[uint64](t)(other.Send(nbdtest.Request{Cmd: 1, Off: 32 * mib, Data: make([]byte, tc.memory/2)}))
				eventually(t, "the other waits", func() bool { return f.waiting.Load() == 1 })
				<-expel
			}
			defer close(f.room)
			others := f.waiting.Load()
			conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
			defer conn.Close()
			c := must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{}))
			for i := range uint64(tc.parked) {
				must[uint64](t)(c.Send(nbdtest.Request{Cmd: 1, Off: i * mib / 8, Data: bytes.Repeat([]byte{1}, size)}))
			}
			must[uint64](t)(c.Send(nbdtest.Request{Cmd: 1, Len: uint32(size)})) // one too many, its data on the way
			eventually(t, "writes wait", func() bool { return f.waiting.Load() == others+tc.parked })
			tc.leave(conn, <-expel)
			eventually(t, "writes are given up", func() bool { return f.waiting.Load() == others })
			eventually(t, "connection is gone", func() bool { return srv.export.Stats().Snapshot().Connections == others })
			got := make([]byte, 32*mib)
			f.m.TryReadAt(got, 0)
			if !bytes.Equal(got, make([]byte, len(got))) {
				t.Error("some were written")
			}
		})
	}
}

// anyone may write.
type anyone struct{}

func (anyone) Begin() error { return nil }
func (anyone) End()         {}
func (anyone) Close()       {}
