package nbd_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// relay is a line of servers, each of which gives its connections to the next.
type relay struct {
	set  *nbd.Set
	mu   sync.Mutex
	left []nbd.Handed
	tls  *tls.Config
}

func newRelay(t *testing.T, b nbd.Backend) *relay {
	t.Helper()
	r := &relay{set: new(nbd.Set)}
	check(t, r.set.Add(&nbd.Export{Name: "vol", Backend: b}))
	return r
}

// next starts a server with what the one before left, through the form in which it goes to another process.
func (r *relay) next(t *testing.T, l net.Listener) (stop func()) {
	t.Helper()
	s := &nbd.Server{Exports: r.set, TLS: r.tls, HandOn: func(h nbd.Handed) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.left = append(r.left, h)
		return true
	}}
	for _, h := range r.left {
		p, err := json.Marshal(h)
		check(t, err)
		again := nbd.Handed{Socket: h.Socket}
		check(t, json.Unmarshal(p, &again))
		s.Adopt = append(s.Adopt, again)
	}
	r.left = nil
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	return func() {
		cancel()
		check(t, <-done)
	}
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	check(t, err)
	l.SetUnlinkOnClose(false)
	return l
}

// TestHandOn: clients that never stop asking, with many requests on the way and answers out of order, go through a line
// of servers on the connection they made to the first, and nothing is lost, doubled or torn.
func TestHandOn(t *testing.T) {
	for name, backend := range map[string]nbd.Backend{"inline": nbdtest.NewMemory(8 * mib), "parked": nbdtest.Slow{Backend: nbdtest.NewMemory(8 * mib)}} {
		t.Run(name, func(t *testing.T) { handOn(t, backend) })
	}
}

func handOn(t *testing.T, backend nbd.Backend) {
	const clients, depth, servers, each = 3, 16, 12, 40
	r := newRelay(t, backend)
	first := filepath.Join(t.TempDir(), "0")
	l := listen(t, first)
	stop := r.next(t, l)
	beat := make(chan struct{}, clients*servers*each) // a reply each
	quit := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		c, err := nbdtest.Dial(t.Context(), "unix", first, "vol", nbdtest.Options{Structured: i%2 == 0, Meta: i == 2})
		check(t, err)
		t.Cleanup(c.Abandon)
		wg.Go(func() {
			if err := pipeline(c, uint64(i)*2*mib, depth, beat, quit); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	for k := range servers {
		for range each {
			<-beat
		}
		stop()
		if len(r.left) != clients {
			t.Fatalf("server %d left %d connections of %d", k, len(r.left), clients)
		}
		stop = r.next(t, listen(t, filepath.Join(t.TempDir(), fmt.Sprint(k+1))))
	}
	close(quit)
	wg.Wait()
	stop()
	for _, h := range r.left {
		h.Socket.Close()
	}
}

// pipeline keeps a request on the way for each of depth slots: a write, then the read of what was acknowledged.
func pipeline(c *nbdtest.Client, base uint64, depth int, beat chan<- struct{}, quit <-chan struct{}) error {
	size := 2 * mib / uint64(depth)
	todo := make(chan nbdtest.Request, depth) // a client that sends and receives in one goroutine can block itself
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for req := range todo {
			if _, err := c.Send(req); err != nil {
				failed <- err
				return
			}
		}
	}()
	written := make([][]byte, depth)
	version := uint64(0)
	write := func(slot uint64) {
		version++ // to 80 KiB: beyond what is read inline
		written[slot] = bytes.Repeat(binary.LittleEndian.AppendUint64(nil, version), 512*(1+int(version%20)))
		todo <- nbdtest.Request{Cmd: uint16(nbd.CmdWrite), Off: base + slot*size, Data: written[slot]}
	}
	for slot := range uint64(depth) {
		write(slot)
	}
	err := func() error {
		for busy := depth; busy > 0; {
			reply, err := c.Recv()
			if err != nil {
				return err
			}
			if reply.Err != nil {
				return reply.Err
			}
			select {
			case beat <- struct{}{}:
			default:
			}
			slot := (reply.Request.Off - base) / size
			if reply.Request.Cmd == uint16(nbd.CmdWrite) {
				todo <- nbdtest.Request{Cmd: uint16(nbd.CmdRead), Off: reply.Request.Off, Len: uint32(len(written[slot]))}
				continue
			}
			if !bytes.Equal(reply.Data, written[slot]) {
				return fmt.Errorf("slot %d differs from what was acknowledged", slot)
			}
			select {
			case <-quit:
				busy--
			default:
				write(slot)
			}
		}
		return nil
	}()
	close(todo)
	return errors.Join(err, <-failed)
}

// TestHandOnInTheMiddle: a request of which only a part has come is finished by whoever has the connection.
func TestHandOnInTheMiddle(t *testing.T) {
	r := newRelay(t, nbdtest.NewMemory(8*mib))
	path := filepath.Join(t.TempDir(), "0")
	stop := r.next(t, listen(t, path))
	conn, err := net.Dial("unix", path)
	check(t, err)
	c := must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{}))
	t.Cleanup(c.Abandon)
	check(t, c.Flush())
	header := nbdtest.Header(nbdtest.Request{Cmd: uint16(nbd.CmdWrite), Off: 4096, Len: 4096})
	for i, cut := range []int{1, len(header) / 2, len(header) - 1} {
		_, err = conn.Write(header[:cut])
		check(t, err)
		stop()
		if len(r.left) != 1 {
			t.Fatalf("cut at %d: not handed on", cut)
		}
		stop = r.next(t, listen(t, filepath.Join(t.TempDir(), fmt.Sprint(i+1))))
		_, err = conn.Write(append(header[cut:], bytes.Repeat([]byte{byte(i + 1)}, 4096)...))
		check(t, err)
		reply := make([]byte, 16)
		_, err = io.ReadFull(conn, reply)
		check(t, err)
		if !bytes.Equal(reply[4:8], make([]byte, 4)) {
			t.Fatalf("cut at %d: answered %x", cut, reply)
		}
		if got := must[[]byte](t)(c.Read(4096, 4096)); got[17] != byte(i+1) {
			t.Errorf("cut at %d: read %d", cut, got[17])
		}
	}
	stop()
	for _, h := range r.left {
		h.Socket.Close()
	}
}

// TestHandOnRefused: an export that is gone, a connection whose keys are in this process, and one in the clear when the next
// server demands TLS, end with the server.
func TestHandOnRefused(t *testing.T) {
	r := newRelay(t, nbdtest.NewMemory(8*mib))
	path := filepath.Join(t.TempDir(), "0")
	stop := r.next(t, listen(t, path))
	c := must[*nbdtest.Client](t)(nbdtest.Dial(t.Context(), "unix", path, "vol", nbdtest.Options{}))
	t.Cleanup(c.Abandon)
	stop()
	r.set.Remove("vol")
	stop = r.next(t, listen(t, filepath.Join(t.TempDir(), "1")))
	if err := c.Flush(); err == nil {
		t.Error("a connection to an export that is gone answers")
	}
	stop()

	cert, pool := identity(t)
	r = newRelay(t, nbdtest.NewMemory(8*mib))
	r.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	path = filepath.Join(t.TempDir(), "2")
	stop = r.next(t, listen(t, path))
	c = must[*nbdtest.Client](t)(nbdtest.Dial(t.Context(), "unix", path, "vol", nbdtest.Options{TLS: &tls.Config{RootCAs: pool, ServerName: "nbd"}}))
	t.Cleanup(c.Abandon)
	stop()
	if len(r.left) != 0 {
		t.Error("a TLS connection was handed on")
	}

	r = newRelay(t, nbdtest.NewMemory(8*mib))
	path = filepath.Join(t.TempDir(), "3")
	stop = r.next(t, listen(t, path))
	c = must[*nbdtest.Client](t)(nbdtest.Dial(t.Context(), "unix", path, "vol", nbdtest.Options{}))
	t.Cleanup(c.Abandon)
	stop()
	r.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	stop = r.next(t, listen(t, filepath.Join(t.TempDir(), "4")))
	if err := c.Write(0, []byte("in the clear"), true); err == nil {
		t.Error("a server that demands TLS takes a write in the clear")
	}
	stop()
}
