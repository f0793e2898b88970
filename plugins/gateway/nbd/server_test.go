package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// running is a server.
type running struct {
	network, addr string

	export *nbd.Export
	stop   func() error // graceful, returns what Serve did
}

// serve starts one on a unix socket.
func serve(t *testing.T, b nbd.Backend, tune ...func(*nbd.Server, *nbd.Export)) *running {
	t.Helper()
	return serveOn(t, "unix", filepath.Join(t.TempDir(), "nbd.sock"), b, tune...)
}

func serveOn(t *testing.T, network, addr string, b nbd.Backend, tune ...func(*nbd.Server, *nbd.Export)) *running {
	t.Helper()
	e := &nbd.Export{Name: "vol", Description: "a test volume", Backend: b}
	set := new(nbd.Set)
	s := &nbd.Server{Exports: set}
	for _, fn := range tune {
		fn(s, e)
	}
	if err := set.Add(e); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	var result error
	var stopped bool
	stop := func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return &running{network: network, addr: l.Addr().String(), export: e, stop: stop}
}

func (r *running) dial(t *testing.T, o nbdtest.Options) *nbdtest.Client {
	t.Helper()
	c, err := nbdtest.Dial(t.Context(), r.network, r.addr, "vol", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abandon)
	return c
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modes are the ways a client can negotiate; what is promised holds in each.
var modes = map[string]nbdtest.Options{
	"simple":     {},
	"structured": {Structured: true},
	"old name":   {OldName: true},
	"meta":       {Meta: true},
}

func TestReadBackWhatWasWritten(t *testing.T) {
	backends := map[string]func() nbd.Backend{
		"inline": func() nbd.Backend { return nbdtest.NewMemory(64 * mib) },
		"parked": func() nbd.Backend { return nbdtest.Slow{Backend: nbdtest.NewMemory(64 * mib)} },
	}
	for bname, backend := range backends {
		for mname, mode := range modes {
			t.Run(bname+"/"+mname, func(t *testing.T) {
				c := serve(t, backend()).dial(t, mode)
				// Sizes on both sides of every limit that changes the path through the code.
				for _, n := range []int{1, 511, 4096, 64<<10 - 1, 64 << 10, 64<<10 + 1, 132000, mib, 32 * mib} {
					data := bytes.Repeat([]byte("nbd!x"), n/5+1)[:n]
					check(t, c.Write(12345, data, n%2 == 0))
					got := must[[]byte](t)(c.Read(12345, uint32(n)))
					if !bytes.Equal(got, data) {
						t.Fatalf("%d bytes read back differ", n)
					}
				}
				check(t, c.Flush())
				check(t, c.Trim(0, 32*mib))
				got := must[[]byte](t)(c.Read(0, mib))
				if !bytes.Equal(got, make([]byte, mib)) {
					t.Fatal("trimmed range does not read as zeroes")
				}
				check(t, c.Close())
			})
		}
	}
}

func TestMissNeverBlocksHits(t *testing.T) {
	gate := nbdtest.NewGate(mib, mib/2)
	srv := serve(t, gate)
	c := srv.dial(t, nbdtest.Options{Structured: true})
	miss := must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Off: mib / 2, Len: 4096}))
	<-gate.Arrived
	for range 200 {
		must[[]byte](t)(c.Read(0, 4096)) // Do fails if the miss is answered first
		check(t, c.Write(4096, []byte("hit"), false))
	}
	check(t, c.Flush())
	if n := srv.export.Stats().Snapshot().InFlight; n != 1 {
		t.Errorf("%d requests in flight, want the miss", n)
	}
	close(gate.Open)
	r := must[nbdtest.Reply](t)(c.Recv())
	if r.Cookie != miss || r.Err != nil {
		t.Fatalf("reply %+v, want that of the miss", r)
	}
}

func TestParkedRequestsAreBounded(t *testing.T) {
	const limit, sent = 128, 300
	gate := nbdtest.NewGate(mib, 0)
	c := serve(t, gate).dial(t, nbdtest.Options{Structured: true})
	for range sent {
		must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Off: 0, Len: 512}))
	}
	for range limit {
		<-gate.Arrived
	}
	select {
	case <-gate.Arrived:
		t.Fatalf("more than %d requests reached the backend", limit)
	case <-time.After(50 * time.Millisecond):
	}
	close(gate.Open)
	for range sent {
		if r := must[nbdtest.Reply](t)(c.Recv()); r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

func TestStopFinishesWhatIsInFlight(t *testing.T) {
	gate := nbdtest.NewGate(mib, mib/2)
	srv := serve(t, gate)
	c := srv.dial(t, nbdtest.Options{})
	idle := srv.dial(t, nbdtest.Options{})
	must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Off: mib / 2, Len: 512}))
	<-gate.Arrived
	stopped := make(chan error, 1)
	go func() { stopped <- srv.stop() }()
	// The idle connection ends although the other is still busy.
	if _, err := idle.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("idle connection: %v, want end of stream", err)
	}
	select {
	case err := <-stopped:
		t.Fatalf("Serve returned %v with a request in flight", err)
	default:
	}
	close(gate.Open)
	r := must[nbdtest.Reply](t)(c.Recv())
	if r.Err != nil || len(r.Data) != 512 {
		t.Fatalf("request in flight got %+v", r)
	}
	check(t, <-stopped)
}

// TestStopGivesUpAfterGrace: what is not finished in time is not answered, because a client that is cut off repeats it on its
// next connection, and one that is told of an error does not.
func TestStopGivesUpAfterGrace(t *testing.T) {
	for range 5 { // of a hundred clients one was nearly always answered
		stopAfterGrace(t, 100)
	}
}

func stopAfterGrace(t *testing.T, clients int) {
	gate := nbdtest.NewGate(mib, 0)
	srv := serve(t, gate, func(s *nbd.Server, _ *nbd.Export) { s.Grace = 20 * time.Millisecond })
	var list []*nbdtest.Client
	for range clients {
		c := srv.dial(t, nbdtest.Options{})
		must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Len: 512}))
		<-gate.Arrived
		list = append(list, c)
	}
	check(t, srv.stop())
	if n := gate.Waiting.Load(); n != 0 {
		t.Fatalf("%d reads still wait in the backend", n)
	}
	for _, c := range list {
		if r, err := c.Recv(); !errors.Is(err, io.EOF) {
			t.Fatalf("reply %+v (%v), want end of stream", r, err)
		}
	}
}

// TestStopDoesNotWaitForOne: neither a client that does not take its replies nor a request that waits keeps a server that
// is stopped from ending, and with it all that are to go on with the next.
func TestStopDoesNotWaitForOne(t *testing.T) {
	for name, hold := range map[string]func(*testing.T, *nbdtest.Gate, net.Conn, *nbdtest.Client){
		"replies": func(t *testing.T, _ *nbdtest.Gate, conn net.Conn, c *nbdtest.Client) {
			must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Len: 4 * mib}))
			_, err := conn.Read(make([]byte, 1)) // the rest does not fit the socket
			check(t, err)
		},
		"request": func(t *testing.T, gate *nbdtest.Gate, _ net.Conn, c *nbdtest.Client) {
			must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Off: 4 * mib, Len: 512}))
			<-gate.Arrived
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := nbdtest.NewGate(8*mib, 4*mib)
			defer close(gate.Open)
			srv := serve(t, gate, func(s *nbd.Server, _ *nbd.Export) { s.Patience = 20 * time.Millisecond })
			conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
			defer conn.Close()
			hold(t, gate, conn, must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{})))
			stopped := make(chan error, 1)
			go func() { stopped <- srv.stop() }()
			select {
			case err := <-stopped:
				check(t, err)
			case <-time.After(5 * time.Second):
				t.Error("the server waits for it")
				<-stopped
			}
		})
	}
}

func TestClientThatVanishesReleasesItsRequests(t *testing.T) {
	gate := nbdtest.NewGate(mib, 0)
	srv := serve(t, gate)
	c := srv.dial(t, nbdtest.Options{})
	for range 10 {
		must[uint64](t)(c.Send(nbdtest.Request{Cmd: 0, Len: 512}))
		<-gate.Arrived
	}
	c.Abandon()
	eventually(t, "reads leave the backend", func() bool { return gate.Waiting.Load() == 0 })
	eventually(t, "connection is gone", func() bool { return srv.export.Stats().Snapshot().Connections == 0 })
}

// eventually polls for what no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}

func TestClientThatDoesNotReadStopsOnlyItself(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(64*mib))
	bad := srv.dial(t, nbdtest.Options{Timeout: 200 * time.Millisecond})
	// Ask for far more than socket buffers and limits hold, and read nothing. The server must
	// stop reading, so that sending fails in the end.
	var err error
	for i := 0; i < 1<<20 && err == nil; i++ {
		_, err = bad.Send(nbdtest.Request{Cmd: 0, Len: mib})
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Fatalf("sending without reading ended with %v, want a time-out", err)
	}
	good := srv.dial(t, nbdtest.Options{Structured: true})
	for range 50 {
		check(t, good.Write(0, []byte("fine"), false))
	}
	check(t, good.Close())
	bad.Abandon()
}

func TestGarbageHarmsNobody(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib), func(s *nbd.Server, _ *nbd.Export) { s.HandshakeTimeout = 100 * time.Millisecond })
	good := srv.dial(t, nbdtest.Options{})
	check(t, good.Write(0, []byte("before"), false))
	hello := append([]byte{0, 0, 0, 3}, "IHAVEOPT"...)
	inputs := map[string][]byte{
		"http":           []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"bad flags":      {0xff, 0xff, 0xff, 0xff},
		"bad magic":      append([]byte{0, 0, 0, 3}, bytes.Repeat([]byte("x"), 100)...),
		"huge option":    append(append([]byte(nil), hello...), 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff),
		"endless":        append([]byte{0, 0, 0, 3}, bytes.Repeat(append([]byte("IHAVEOPT"), 0, 0, 0, 99, 0, 0, 0, 0), 200)...),
		"silence":        nil,
		"half an option": append(append([]byte(nil), hello...), 0, 0),
	}
	for name, in := range inputs {
		t.Run(name, func(t *testing.T) {
			conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			conn.Write(in) // may fail: the server closes as soon as it has seen enough
			if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, net.ErrClosed) {
				var ne net.Error
				if errors.As(err, &ne) && ne.Timeout() {
					t.Fatal("server keeps the connection")
				}
			}
		})
	}
	if got := must[[]byte](t)(good.Read(0, 6)); string(got) != "before" {
		t.Fatalf("read %q", got)
	}
}

func TestGarbageAfterTheHandshake(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib))
	bad := srv.dial(t, nbdtest.Options{})
	_, err := bad.Send(nbdtest.Request{Cmd: 1, Len: 64 * mib}) // data would follow
	check(t, err)
	if _, err := bad.Recv(); err == nil {
		t.Fatal("a write of 64 MiB was answered")
	}
	check(t, srv.dial(t, nbdtest.Options{}).Close())
}

func TestMultiConn(t *testing.T) {
	m := nbdtest.NewMemory(mib)
	srv := serve(t, m)
	a, b := srv.dial(t, nbdtest.Options{}), srv.dial(t, nbdtest.Options{})
	if a.Flags&(1<<8) == 0 {
		t.Fatal("CAN_MULTI_CONN not offered")
	}
	check(t, a.Write(0, []byte("on a"), false))
	check(t, b.Flush())
	if got := must[[]byte](t)(b.Read(0, 4)); string(got) != "on a" {
		t.Fatalf("b reads %q", got)
	}
	check(t, a.Close())
	check(t, b.Close())
}

func TestTooManyConnections(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib), func(s *nbd.Server, _ *nbd.Export) { s.MaxConns = 2 })
	a := srv.dial(t, nbdtest.Options{})
	srv.dial(t, nbdtest.Options{})
	if _, err := nbdtest.Dial(t.Context(), "unix", srv.addr, "vol", nbdtest.Options{}); err == nil {
		t.Fatal("third of two connections was served")
	}
	check(t, a.Close())
	eventually(t, "room for a new one", func() bool {
		c, err := nbdtest.Dial(t.Context(), "unix", srv.addr, "vol", nbdtest.Options{})
		if err == nil {
			c.Abandon()
		}
		return err == nil
	})
}
