package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// TestThousandConnections lets a thousand clients in, all of which write, read and flush, and looks at what they cost.
func TestThousandConnections(t *testing.T) {
	const clients = 1000
	srv := serve(t, nbdtest.NewMemory(clients*8192))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	done := make([]*nbdtest.Client, clients)
	for i := range clients {
		wg.Go(func() {
			// The backlog of a unix socket may be full for a moment: dialing waits.
			c, err := nbdtest.Dial(t.Context(), "unix", srv.addr, "vol", nbdtest.Options{Structured: i%2 == 0})
			if err != nil {
				errs <- fmt.Errorf("client %d: %w", i, err)
				return
			}
			done[i] = c
			off, data := uint64(i*8192), fmt.Appendf(nil, "client %d", i)
			err = errors.Join(c.Write(off, data, false), c.Flush())
			got, err2 := c.Read(off, uint32(len(data)))
			if err = errors.Join(err, err2); err != nil || !bytes.Equal(got, data) {
				errs <- fmt.Errorf("client %d read %q: %w", i, got, err)
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
	if n := srv.export.Stats().Snapshot().Connections; n != clients {
		t.Errorf("%d connections, want %d", n, clients)
	}
	runtime.GC()
	runtime.GC() // the second empties the pools
	runtime.ReadMemStats(&after)
	// Both ends are in this process: the client's reader alone has 64 KiB.
	if used := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse); used/clients > 120<<10 {
		t.Errorf("a connection at rest costs %d KiB", used/clients>>10)
	}
	for _, c := range done {
		c.Abandon()
	}
}

// TestSlowHandshakeTimesOut: a client that sends a byte now and then has as long as one that sends nothing.
func TestSlowHandshakeTimesOut(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib), func(s *nbd.Server, _ *nbd.Export) { s.HandshakeTimeout = 200 * time.Millisecond })
	conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
	defer conn.Close()
	start := time.Now()
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for _, b := range append([]byte{0, 0, 0, 3}, bytes.Repeat([]byte("IHAVEOPT\x00\x00\x00\x63\x00\x00\x00\x00"), 20)...) {
			<-tick.C
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
		}
	}()
	conn.SetReadDeadline(start.Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil {
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() {
			t.Fatal("the server keeps a client that never finishes its handshake")
		}
	}
	check(t, srv.dial(t, nbdtest.Options{}).Close())
}

// TestMemoryIsSharedAndReclaimed: clients that ask for much and take nothing fill the memory of the server; they lose
// their connection, and one that takes its replies is served.
func TestMemoryIsSharedAndReclaimed(t *testing.T) {
	srv := serve(t, nbdtest.Slow{Backend: nbdtest.NewMemory(4 * mib)}, func(s *nbd.Server, _ *nbd.Export) {
		s.MaxMemory, s.TakeReplies = 2*mib, 500*time.Millisecond
	})
	const greedy = 4
	var wg sync.WaitGroup
	for range greedy {
		c := srv.dial(t, nbdtest.Options{Timeout: 30 * time.Second})
		wg.Go(func() {
			var err error
			for i := 0; i < 1<<12 && err == nil; i++ {
				_, err = c.Send(nbdtest.Request{Cmd: 0, Len: mib})
			}
			var ne net.Error
			if err == nil || errors.As(err, &ne) && ne.Timeout() {
				t.Errorf("a client that takes nothing still has its connection: %v", err)
			}
		})
	}
	good := srv.dial(t, nbdtest.Options{Timeout: 30 * time.Second})
	for range 20 {
		if got := must[[]byte](t)(good.Read(0, mib)); len(got) != mib {
			t.Fatalf("%d bytes", len(got))
		}
		check(t, good.Write(0, make([]byte, mib), false))
	}
	wg.Wait()
	// The limit on sending is off again: what was slow under pressure may be slow now.
	check(t, good.Close())
}

// TestUnreadExtents: replies to BLOCK_STATUS take memory, so clients that do not read them fill it and lose their connection.
func TestUnreadExtents(t *testing.T) {
	m := nbdtest.NewMemory(32 * mib)
	for off := uint64(0); off < m.Size(); off += 8192 { // every other page is a hole
		m.TryWriteAt([]byte{1}, off)
	}
	srv := serve(t, m, func(s *nbd.Server, _ *nbd.Export) { s.MaxMemory, s.TakeReplies = 2*mib, 50*time.Millisecond })
	c := srv.dial(t, nbdtest.Options{Meta: true})
	var err error
	for err == nil {
		_, err = c.Send(nbdtest.Request{Cmd: 7, Len: 32 * mib})
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		t.Error("a client that takes nothing still has its connection")
	}
}

// TestHalfWrites: clients that announce long writes and send nothing of them fill the memory of the server; they lose their
// connection, and one that goes on is served all the time.
func TestHalfWrites(t *testing.T) {
	srv := serve(t, nbdtest.Slow{Backend: nbdtest.NewMemory(4 * mib)}, func(s *nbd.Server, _ *nbd.Export) {
		s.MaxMemory, s.TakeReplies = mib, 200*time.Millisecond // each takes all of it
	})
	var left sync.WaitGroup
	for range 3 {
		c := srv.dial(t, nbdtest.Options{Timeout: 30 * time.Second})
		must[uint64](t)(c.Send(nbdtest.Request{Cmd: 1, Len: mib}))
		left.Go(func() {
			if _, err := c.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("a client that sends nothing of its write: %v, want the end of the connection", err)
			}
		})
	}
	gone := make(chan struct{})
	go func() {
		left.Wait()
		close(gone)
	}()
	good := srv.dial(t, nbdtest.Options{})
	for served := false; !served; {
		check(t, good.Write(0, make([]byte, 64<<10), true)) // fits the socket: it is never taken for one of the others
		select {
		case <-gone:
			served = true
		default:
		}
	}
}

// TestHalfWritesTakePieces: a long write that the backend takes as it comes holds no more than a piece of it.
func TestHalfWritesTakePieces(t *testing.T) {
	m := nbdtest.NewMemory(64 * mib)
	srv := serve(t, m, func(s *nbd.Server, _ *nbd.Export) { s.MaxMemory = 2 * mib })
	for i := range uint64(4) {
		conn := must[net.Conn](t)(net.Dial("unix", srv.addr))
		defer conn.Close()
		must[*nbdtest.Client](t)(nbdtest.New(conn, "vol", nbdtest.Options{}))
		header := nbdtest.Header(nbdtest.Request{Cmd: 1, Off: i * mib, Len: 32 * mib})
		_, err := conn.Write(append(header, bytes.Repeat([]byte{1}, 65<<10)...))
		check(t, err)
		eventually(t, "a piece is written", func() bool {
			var p [1]byte
			return m.TryReadAt(p[:], i*mib) && p[0] == 1
		})
	}
	good := srv.dial(t, nbdtest.Options{})
	check(t, good.Write(40*mib, make([]byte, mib), true))
}

// TestOversizeAndUnaligned: what does not fit gets an error, and the connection goes on.
func TestOversizeAndUnaligned(t *testing.T) {
	m := nbdtest.NewMemory(64 * mib)
	m.Min = 4096
	c := serve(t, small{m}).dial(t, nbdtest.Options{Structured: true})
	if c.Min != 4096 || c.Max != mib {
		t.Fatalf("block sizes %d %d %d", c.Min, c.Pref, c.Max)
	}
	const einval, enospc = nbdtest.Errno(22), nbdtest.Errno(28)
	for _, tc := range []struct {
		name string
		req  nbdtest.Request
		want error
	}{
		{"read unaligned offset", nbdtest.Request{Cmd: 0, Off: 512, Len: 4096}, einval},
		{"read unaligned length", nbdtest.Request{Cmd: 0, Len: 100}, einval},
		{"write unaligned", nbdtest.Request{Cmd: 1, Off: 1, Data: make([]byte, 4096)}, einval},
		{"zeroes unaligned", nbdtest.Request{Cmd: 6, Off: 4096, Len: 4097}, einval},
		{"read too large", nbdtest.Request{Cmd: 0, Len: 2 * mib}, einval},
		{"write too large", nbdtest.Request{Cmd: 1, Data: make([]byte, 2*mib)}, einval},
		{"zeroes of any size", nbdtest.Request{Cmd: 6, Len: 64 * mib}, nil},
		{"write over the end", nbdtest.Request{Cmd: 1, Off: 64*mib - 4096, Data: make([]byte, 8192)}, enospc},
		{"write where the sum wraps", nbdtest.Request{Cmd: 1, Off: 1<<64 - 4096, Data: make([]byte, 8192)}, enospc},
		{"read where the sum wraps", nbdtest.Request{Cmd: 0, Off: 1<<64 - 4096, Len: 8192}, einval},
		{"command of the future", nbdtest.Request{Cmd: 42, Len: 4096}, einval},
		{"flag of the future", nbdtest.Request{Cmd: 0, Flags: 1 << 14, Len: 4096}, einval},
		{"status without a context", nbdtest.Request{Cmd: 7, Len: 4096}, einval},
	} {
		if _, err := c.Do(tc.req); !errors.Is(err, tc.want) || tc.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	check(t, c.Close())
}

// small takes at most a MiB at once.
type small struct{ *nbdtest.Memory }

func (s small) BlockSize() (uint32, uint32, uint32) { return s.Min, 4096, mib }

func (s small) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	if len(p) > mib {
		return fmt.Errorf("%d bytes reached the backend", len(p))
	}
	return s.Memory.WriteAt(ctx, p, off, fua)
}
