package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// committed is a backend whose Flush says that it has begun, waits and fails when it is told to.
type committed struct {
	*nbdtest.Memory
	flushes       atomic.Int64
	full          atomic.Bool // TryWriteAlone takes nothing
	gate          atomic.Bool
	arrived, open chan struct{}
	failure       atomic.Pointer[error]
}

func newCommitted() *committed {
	return &committed{Memory: nbdtest.NewMemory(8 * mib), arrived: make(chan struct{}), open: make(chan struct{})}
}

func (b *committed) TryWriteAlone(p []byte, off uint64) (done, due bool) {
	return !b.full.Load() && b.TryWriteAt(p, off), false
}

func (b *committed) FlushAhead() {}

func (b *committed) Flush(ctx context.Context) error {
	b.flushes.Add(1)
	if b.gate.Load() {
		b.arrived <- struct{}{}
		<-b.open
	}
	if err := b.failure.Load(); err != nil {
		return *err
	}
	return b.Memory.Flush(ctx)
}

// hired connects clients and has them commit until a crew serves them.
func hired(t *testing.T, srv *running, n int, o nbdtest.Options) []*nbdtest.Client {
	t.Helper()
	var list []*nbdtest.Client
	for range n {
		list = append(list, srv.dial(t, o))
	}
	for range 20 {
		for i, c := range list {
			check(t, commit(c, uint64(i)*slot, []byte("before")))
		}
	}
	return list
}

// slot is what each client has of the volume.
const slot = 64 << 10

func commit(c *nbdtest.Client, off uint64, p []byte) error {
	return errors.Join(c.Write(off, p, false), c.Flush())
}

// steady has clients commit until done is closed: a crew that serves them is never idle.
func steady(t *testing.T, done <-chan struct{}, list ...*nbdtest.Client) (wait func()) {
	var wg sync.WaitGroup
	for i, c := range list {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := commit(c, mib+uint64(i)*slot, []byte("steady")); err != nil {
					t.Errorf("steady client %d: %v", i, err)
					return
				}
			}
		})
	}
	return wg.Wait
}

// held has the first client's FLUSH begin and wait in the backend.
func (b *committed) held(t *testing.T, c *nbdtest.Client) {
	t.Helper()
	b.gate.Store(true)
	must[uint64](t)(c.Send(nbdtest.Request{Cmd: 3}))
	<-b.arrived
	b.gate.Store(false)
}

func answered(t *testing.T, c *nbdtest.Client, want error) {
	t.Helper()
	if r := must[nbdtest.Reply](t)(c.Recv()); !errors.Is(r.Err, want) {
		t.Errorf("answer %v, want %v", r.Err, want)
	}
}

// TestCrewSharesFlushes has clients ask while one FLUSH is under way: the next serves them all, also those who wrote with FUA.
func TestCrewSharesFlushes(t *testing.T) {
	for name, o := range modes {
		t.Run(name, func(t *testing.T) { sharesFlushes(t, o, []byte("commit")) })
	}
	t.Run("16 KiB", func(t *testing.T) { sharesFlushes(t, nbdtest.Options{}, bytes.Repeat([]byte("commit!!"), 2048)) })
}

func sharesFlushes(t *testing.T, o nbdtest.Options, data []byte) {
	b := newCommitted()
	list := hired(t, serve(t, b), 9, o)
	for range 40 { // what is longer than the first buffers has them grow
		for i, c := range list {
			check(t, commit(c, uint64(i)*slot, data))
		}
	}
	for i, c := range list[:5] {
		check(t, c.Write(uint64(i)*slot, data, false))
	}
	b.held(t, list[0])
	n := b.flushes.Load()
	for i, c := range list[1:] {
		req := nbdtest.Request{Cmd: 3}
		if i >= 4 {
			req = nbdtest.Request{Cmd: 1, Flags: 1, Off: uint64(i+1) * slot, Data: data}
		}
		must[uint64](t)(c.Send(req))
	}
	b.open <- struct{}{}
	for _, c := range list {
		answered(t, c, nil)
	}
	if more := b.flushes.Load() - n; more != 1 {
		t.Errorf("%d flushes for 8 clients that asked while one was under way, want 1", more)
	}
	for i, c := range list {
		if got := must[[]byte](t)(c.Read(uint64(i)*slot, uint32(len(data)))); !bytes.Equal(got, data) {
			t.Errorf("client %d reads something else", i)
		}
	}
}

// TestCrewGivesBack: whatever else a client in a crew asks for, however it comes, is answered as usual, and so is what it
// asks for after that.
func TestCrewGivesBack(t *testing.T) {
	page := bytes.Repeat([]byte("p"), 4096)
	for name, ask := range map[string]func(t *testing.T, b *committed, c *nbdtest.Client){
		"read": func(t *testing.T, _ *committed, c *nbdtest.Client) {
			if got := must[[]byte](t)(c.Read(0, 6)); string(got) != "before" {
				t.Errorf("read %q", got)
			}
		},
		"trim":  func(t *testing.T, _ *committed, c *nbdtest.Client) { check(t, c.Trim(mib, 4096)) },
		"write": func(t *testing.T, _ *committed, c *nbdtest.Client) { check(t, c.Write(mib, page, false)) },
		"bare flush": func(t *testing.T, _ *committed, c *nbdtest.Client) {
			check(t, c.Flush())
			check(t, c.Flush())
		},
		"long write": func(t *testing.T, _ *committed, c *nbdtest.Client) {
			long := bytes.Repeat(page, 64)
			for range 40 { // more often than it takes to come to the crew again
				check(t, c.Write(mib, long, false))
				check(t, c.Flush())
			}
			if got := must[[]byte](t)(c.Read(mib, uint32(len(long)))); !bytes.Equal(got, long) {
				t.Error("a long write is not what was written")
			}
		},
		"outside": func(t *testing.T, _ *committed, c *nbdtest.Client) {
			if err := c.Write(8*mib-1, page, false); !errors.Is(err, nbdtest.Errno(28)) {
				t.Errorf("write behind the end: %v", err)
			}
		},
		"no room": func(t *testing.T, b *committed, c *nbdtest.Client) {
			b.full.Store(true)
			check(t, c.Write(mib, page, false)) // by waiting for room
			b.full.Store(false)
			check(t, c.Flush())
		},
		"a burst": func(t *testing.T, _ *committed, c *nbdtest.Client) {
			for range 10 {
				must[uint64](t)(c.Send(nbdtest.Request{Cmd: 1, Off: mib, Data: page}))
				must[uint64](t)(c.Send(nbdtest.Request{Cmd: 3}))
			}
			for range 20 {
				answered(t, c, nil)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newCommitted()
			srv := serve(t, b)
			list := hired(t, srv, 2, nbdtest.Options{})
			for range 3 {
				ask(t, b, list[0])
				for range 40 {
					for _, c := range list {
						check(t, commit(c, 0, []byte("before")))
					}
				}
			}
			for _, c := range list {
				check(t, c.Close())
			}
			eventually(t, "the connections are gone", func() bool { return srv.export.Stats().Snapshot().Connections == 0 })
		})
	}
}

// TestCrewBadInput sends rubbish, half a request and nothing more through a crew; the others do not notice.
func TestCrewBadInput(t *testing.T) {
	for name, in := range map[string][]byte{
		"rubbish":         bytes.Repeat([]byte("x"), 28),
		"half a header":   nbdtest.Header(nbdtest.Request{Cmd: 1, Data: []byte("x")})[:13],
		"half a write":    append(nbdtest.Header(nbdtest.Request{Cmd: 1, Data: make([]byte, 100)}), "half"...),
		"too long":        nbdtest.Header(nbdtest.Request{Cmd: 1, Len: 64 * mib}),
		"unknown command": nbdtest.Header(nbdtest.Request{Cmd: 999}),
		"nothing":         nil,
	} {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, newCommitted())
			conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
			bad := must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{}))
			good := hired(t, srv, 1, nbdtest.Options{})[0]
			for range 20 {
				check(t, commit(bad, 0, []byte("x")))
			}
			must[int](t)(conn.Write(in))
			for range 40 {
				check(t, commit(good, 0, []byte("x")))
			}
			bad.Abandon()
			eventually(t, "the bad one is gone", func() bool { return srv.export.Stats().Snapshot().Connections == 1 })
			check(t, commit(good, 0, []byte("x")))
		})
	}
}

// TestCrewFlushFails: everybody who waited learns of it.
func TestCrewFlushFails(t *testing.T) {
	b := newCommitted()
	list := hired(t, serve(t, b), 5, nbdtest.Options{Structured: true})
	list, durable := list[:4:4], list[4] // the last writes with FUA
	for _, c := range list {
		check(t, c.Write(0, []byte("x"), false))
	}
	b.held(t, list[0])
	for _, c := range list[1:] {
		must[uint64](t)(c.Send(nbdtest.Request{Cmd: 3}))
	}
	must[uint64](t)(durable.Send(nbdtest.Request{Cmd: 1, Flags: 1, Data: []byte("x")}))
	err := nbd.ErrIO
	b.failure.Store(&err)
	b.open <- struct{}{}
	for _, c := range append(list, durable) {
		answered(t, c, nbdtest.Errno(5))
	}
	b.failure.Store(nil)
	for _, c := range list {
		check(t, commit(c, 0, []byte("x")))
	}
}

// TestCrewHasty: a client that sends more, or its end, while its FLUSH is under way has both answered, also when the crew has
// so much to do for others that it never looks for what it may have missed.
func TestCrewHasty(t *testing.T) {
	for name, more := range map[string]func(t *testing.T, conn *net.UnixConn, c *nbdtest.Client){
		"a read": func(t *testing.T, _ *net.UnixConn, c *nbdtest.Client) {
			must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Len: 4}))
		},
		"its end": func(t *testing.T, conn *net.UnixConn, _ *nbdtest.Client) { check(t, conn.CloseWrite()) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newCommitted()
			srv := serve(t, b)
			conn := must[*net.UnixConn](t)(net.DialUnix("unix", nil, &net.UnixAddr{Name: srv.addr, Net: "unix"}))
			c := must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{}))
			defer c.Abandon()
			others := hired(t, srv, 3, nbdtest.Options{})
			for range 20 {
				check(t, commit(c, 0, []byte("x")))
			}
			check(t, c.Write(0, []byte("this"), false))
			b.held(t, c)
			more(t, conn, c)
			done := make(chan struct{})
			wait := steady(t, done, others...)
			b.open <- struct{}{}
			answered(t, c, nil)
			if r, err := c.Recv(); name == "a read" && (err != nil || string(r.Data) != "this") || name != "a read" && !errors.Is(err, io.EOF) {
				t.Errorf("%q, %v", r.Data, err)
			}
			close(done)
			wait()
		})
	}
}

// TestCrewExpels closes a connection whose FLUSH is under way: once expel has returned there is no answer.
func TestCrewExpels(t *testing.T) {
	b := newCommitted()
	expel := make(chan func(), 2)
	srv := serve(t, b, func(_ *nbd.Server, e *nbd.Export) {
		e.Admit = func(f func()) nbd.Admission {
			expel <- f
			return free{}
		}
	})
	list := hired(t, srv, 2, nbdtest.Options{})
	for _, c := range list {
		check(t, c.Write(0, []byte("x"), false))
	}
	b.held(t, list[0])
	(<-expel)()
	b.open <- struct{}{}
	if _, err := list[0].Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the expulsion: %v, want end of stream", err)
	}
	check(t, list[1].Flush())
	eventually(t, "one connection is left", func() bool { return srv.export.Stats().Snapshot().Connections == 1 })
	(<-expel)() // one that nobody serves at the moment
	if _, err := list[1].Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the expulsion: %v, want end of stream", err)
	}
}

// free admits everything.
type free struct{}

func (free) Begin() error { return nil }
func (free) End()         {}
func (free) Close()       {}

// TestCrewHandsOn: clients in a crew, who never stop, go on with the next server when theirs is stopped.
func TestCrewHandsOn(t *testing.T) {
	b := newCommitted()
	r := newRelay(t, b)
	first := filepath.Join(t.TempDir(), "0")
	stop := r.next(t, listen(t, first))
	list := hired(t, &running{network: "unix", addr: first}, 4, nbdtest.Options{})
	done := make(chan struct{})
	wait := steady(t, done, list[1:]...)
	for k := range 5 {
		for range 40 {
			check(t, commit(list[0], 0, []byte("x")))
		}
		n := b.flushes.Load()
		stop()
		if n = b.flushes.Load() - n; n > 500 {
			t.Errorf("server %d went on for %d flushes when it was stopped", k, n)
		}
		if len(r.left) != len(list) {
			t.Fatalf("server %d left %d connections of %d", k, len(r.left), len(list))
		}
		stop = r.next(t, listen(t, filepath.Join(t.TempDir(), "next")))
	}
	close(done)
	wait()
	for _, c := range list {
		check(t, c.Close())
	}
	stop()
}

// TestCrewOverTCP has many clients commit at the same time and come and go.
func TestCrewOverTCP(t *testing.T) {
	b := newCommitted()
	set := new(nbd.Set)
	check(t, set.Add(&nbd.Export{Name: "vol", Backend: b}))
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- (&nbd.Server{Exports: set}).Serve(ctx, l) }()
	const clients, rounds, commits = 12, 4, 60
	results := make(chan error, clients)
	for i := range uint64(clients) {
		go func() {
			results <- func() error {
				for k := range byte(rounds) {
					c, err := nbdtest.Dial(ctx, "tcp", l.Addr().String(), "vol", nbdtest.Options{Structured: i%2 == 0})
					if err != nil {
						return err
					}
					data := bytes.Repeat([]byte{k, byte(i)}, 2048)
					for range commits {
						if err := commit(c, i*4096, data); err != nil {
							return err
						}
					}
					got, err := c.Read(i*4096, 4096)
					if err := errors.Join(err, c.Close()); err != nil {
						return err
					}
					if !bytes.Equal(got, data) {
						return errors.New("read back something else")
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		check(t, <-results)
	}
	if n := b.flushes.Load(); n >= clients*rounds*commits {
		t.Errorf("%d flushes for as many requests", n)
	}
	cancel()
	check(t, <-done)
}
