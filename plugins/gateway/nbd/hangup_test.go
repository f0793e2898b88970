package nbd_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
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
// server does not read from it, and do not come after what is written there since. Over TCP the client's FIN stands behind
// more data than there is a window for.
func TestNothingComesAfterItsClient(t *testing.T) {
	for name, tc := range map[string]struct {
		network, addr string
		memory        int // of the server, 0 for enough
		parked        int64
		more          int // on the way, of 128 KiB each
		leave         func(conn net.Conn, expel func())
	}{
		"closed":                      {"unix", "", 0, 128, 0, closed},
		"half closed":                 {"unix", "", 0, 128, 0, halfClosed},
		"cut off":                     {"unix", "", 0, 128, 0, cutOff},
		"closed, without memory":      {"unix", "", 2 * mib, 4, 0, closed},
		"cut off, without memory":     {"unix", "", 2 * mib, 4, 0, cutOff},
		"closed, TCP":                 {"tcp", "127.0.0.1:0", 0, 128, 16, closed},
		"closed, TCP, long before":    {"tcp", "127.0.0.1:0", 0, 128, 100, closed},
		"half closed, TCP":            {"tcp", "127.0.0.1:0", 0, 128, 16, halfClosed},
		"cut off, TCP":                {"tcp", "127.0.0.1:0", 0, 128, 16, cutOff},
		"closed, TCP, without memory": {"tcp", "127.0.0.1:0", 2 * mib, 4, 64, closed},
	} {
		t.Run(name, func(t *testing.T) {
			f, expel := newFull(), make(chan func(), 1)
			if tc.addr == "" {
				tc.addr = filepath.Join(t.TempDir(), "nbd.sock")
			}
			srv := serveOn(t, tc.network, tc.addr, f, func(s *nbd.Server, e *nbd.Export) {
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
			conn := must[net.Conn](t)(net.Dial(srv.network, srv.addr))
			defer conn.Close()
			c := must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{}))
			for i := range uint64(tc.parked) {
				must[uint64](t)(c.Send(nbdtest.Request{Cmd: 1, Off: i * mib / 8, Data: bytes.Repeat([]byte{1}, size)}))
			}
			for range tc.more {
				must[uint64](t)(c.Send(nbdtest.Request{Cmd: 1, Data: bytes.Repeat([]byte{1}, 128<<10)}))
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

func closed(conn net.Conn, _ func())     { conn.Close() }
func halfClosed(conn net.Conn, _ func()) { conn.(interface{ CloseWrite() error }).CloseWrite() }
func cutOff(_ net.Conn, expel func())    { expel() }

// TestNothingIsLostInASpill: what is taken off the socket of a TCP client that waits is served in its order, also when the
// client has said that it disconnects, and when the server stops and another goes on.
func TestNothingIsLostInASpill(t *testing.T) {
	const writes, size = 128 + 96, 128 << 10 // more than are parked and both kernels hold
	for name, then := range map[string]func(t *testing.T, s *spilling){
		"goes on": func(_ *testing.T, s *spilling) { close(s.f.room) },
		"disconnects": func(t *testing.T, s *spilling) {
			must[uint64](t)(s.c.Send(nbdtest.Request{Cmd: uint16(nbd.CmdDisc)}))
			check(t, s.conn.(*net.TCPConn).CloseWrite())
			close(s.f.room)
		},
		"is handed on": handedOn,
	} {
		t.Run(name, func(t *testing.T) {
			s := &spilling{f: newFull()}
			s.relay = newRelay(t, s.f)
			l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
			s.stop = s.relay.next(t, l)
			s.conn = must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
			defer s.conn.Close()
			s.c = must[*nbdtest.Client](t)(nbdtest.New(s.conn, "vol", nbdtest.Options{}))
			for i := range uint64(writes) {
				must[uint64](t)(s.c.Send(nbdtest.Request{Cmd: 1, Off: i * size, Data: bytes.Repeat([]byte{byte(i)}, size)}))
			}
			then(t, s)
			for range writes {
				check(t, must[nbdtest.Reply](t)(s.c.Recv()).Err)
			}
			s.stop()
			for _, h := range s.relay.left {
				h.Socket.Close()
			}
			got := make([]byte, size)
			for i := range uint64(writes) {
				if s.f.m.TryReadAt(got, i*size); !bytes.Equal(got, bytes.Repeat([]byte{byte(i)}, size)) {
					t.Fatalf("write %d is not there", i)
				}
			}
		})
	}
}

// spilling is a client with more on the way than its server has room for.
type spilling struct {
	f     *full
	relay *relay
	stop  func()
	conn  net.Conn
	c     *nbdtest.Client
}

// handedOn stops the server of s before there is room, and starts the next.
func handedOn(t *testing.T, s *spilling) {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.stop()
	}()
	eventually(t, "the server stops", func() bool {
		c, err := net.Dial("tcp", s.conn.RemoteAddr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(s.f.room)
	<-stopped
	if len(s.relay.left) != 1 || len(s.relay.left[0].Unread) > mib {
		t.Fatalf("left %d connections, or one with much that is not served", len(s.relay.left))
	}
	s.stop = s.relay.next(t, must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")))
}

// anyone may write.
type anyone struct{}

func (anyone) Begin() error { return nil }
func (anyone) End()         {}
func (anyone) Close()       {}
