package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

func TestHolesAndStatus(t *testing.T) {
	c := serve(t, nbdtest.NewMemory(mib)).dial(t, nbdtest.Options{Meta: true})
	check(t, c.Write(256<<10, bytes.Repeat([]byte{1}, 64<<10), false))

	r := must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 0, Len: mib}))
	// Nothing to 256 KiB, 64 KiB of data and as much of nothing in its piece, and nothing from there on.
	if r.Holes != 3 || r.Chunks != 4 || r.Data[256<<10] != 1 || r.Data[320<<10] != 0 {
		t.Errorf("read of hole, data, hole: %d holes in %d chunks", r.Holes, r.Chunks)
	}
	r = must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 0, Flags: 4, Len: mib}))
	if r.Holes != 0 || r.Chunks != 1 {
		t.Errorf("unfragmented read: %d holes in %d chunks", r.Holes, r.Chunks)
	}
	r = must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 0, Flags: 4, Off: 512 << 10, Len: 4096}))
	if r.Holes != 1 || r.Chunks != 1 {
		t.Errorf("unfragmented read of nothing: %d holes in %d chunks", r.Holes, r.Chunks)
	}
	r = must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 7, Len: mib}))
	want := []nbdtest.Extent{{Len: 256 << 10, Flags: 3}, {Len: 64 << 10}, {Len: 704 << 10, Flags: 3}}
	if fmt.Sprint(r.Extents) != fmt.Sprint(want) {
		t.Errorf("status %v, want %v", r.Extents, want)
	}
	r = must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 7, Flags: 8, Off: 256 << 10, Len: mib / 2}))
	if fmt.Sprint(r.Extents) != fmt.Sprint(want[1:2]) {
		t.Errorf("status of one extent %v, want %v", r.Extents, want[1:2])
	}
}

// TestStateContext asks for both contexts at once.
func TestStateContext(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib))
	c := srv.dial(t, nbdtest.Options{Meta: true})
	check(t, c.Write(256<<10, bytes.Repeat([]byte{1}, 64<<10), false))
	r := must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 7, Len: mib}))
	const local, dirty, zero = 1, 2, 8
	want := []nbdtest.Extent{{Len: 256 << 10, Flags: zero}, {Len: 64 << 10, Flags: local | dirty}, {Len: 704 << 10, Flags: zero}}
	if got := r.States["ratchet:state"]; fmt.Sprint(got) != fmt.Sprint(want) || len(r.Extents) != 3 {
		t.Errorf("state %v, want %v; allocation %v", got, want, r.Extents)
	}
	r = must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 7, Flags: 8, Off: 256 << 10, Len: mib / 2}))
	if got := r.States["ratchet:state"]; fmt.Sprint(got) != fmt.Sprint(want[1:2]) {
		t.Errorf("state of one extent %v, want %v", got, want[1:2])
	}
	// Each alone, as nbdinfo asks.
	for context, want := range map[string]string{"base:allocation": "0 1048576", "ratchet:state": "0 262144 8;262144 65536 3;327680 720896 8"} {
		var got []string
		for line := range strings.Lines(run(t, "nbdinfo", "--map="+context, srv.uri())) {
			if f := strings.Fields(line); len(f) >= 3 {
				got = append(got, strings.Join(f[:3], " "))
			}
		}
		if s := strings.Join(got, ";"); context == "ratchet:state" && s != want || len(got) != 3 {
			t.Errorf("nbdinfo --map=%s: %q, want %q", context, s, want)
		}
	}
}

// TestResize: a connected client cannot be told of a new size, but may use it; a new one is told.
func TestResize(t *testing.T) {
	b := &resizable{Memory: nbdtest.NewMemory(4 * mib)}
	b.size.Store(mib)
	srv := serve(t, b)
	c := srv.dial(t, nbdtest.Options{})
	if err := c.Write(mib, []byte("beyond"), false); !errors.Is(err, nbdtest.Errno(28)) {
		t.Errorf("write behind the end: %v, want ENOSPC", err)
	}
	b.size.Store(2 * mib)
	check(t, c.Write(mib, []byte("inside"), false))
	if again := srv.dial(t, nbdtest.Options{}); again.Size != 2*mib {
		t.Errorf("a new client is told %d bytes, want %d", again.Size, 2*mib)
	}
	b.size.Store(mib)
	if _, err := c.Read(mib, 6); !errors.Is(err, nbdtest.Errno(22)) {
		t.Errorf("read behind the new end: %v, want EINVAL", err)
	}
}

// resizable is a Memory of which only a part is shown.
type resizable struct {
	*nbdtest.Memory
	size atomic.Uint64
}

func (r *resizable) Size() uint64 { return r.size.Load() }

func TestWriteZeroes(t *testing.T) {
	m := nbdtest.NewMemory(mib)
	c := serve(t, m).dial(t, nbdtest.Options{Meta: true})
	check(t, c.Write(0, bytes.Repeat([]byte{1}, mib), false))
	const noHole, fast, fua = 2, 16, 1
	for _, tc := range []struct {
		name  string
		flags uint16
		errno nbdtest.Errno
		state uint32
	}{
		{"hole", 0, 0, 3},
		{"provisioned", noHole, 0, 0},
		{"fast hole", fast, 0, 3},
		{"fast provisioned is not fast", noHole | fast, 95, 0},
		{"durable", fua, 0, 3},
	} {
		before := m.Flushes
		_, err := c.Do(nbdtest.Request{Cmd: 6, Flags: tc.flags, Len: 64 << 10})
		var got nbdtest.Errno
		errors.As(err, &got)
		if got != tc.errno {
			t.Errorf("%s: %v, want errno %d", tc.name, err, tc.errno)
		}
		if flushed := m.Flushes > before; flushed != (tc.flags&fua != 0) {
			t.Errorf("%s: made durable: %v", tc.name, flushed)
		}
		r := must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 7, Flags: 8, Len: 64 << 10}))
		if r.Extents[0].Flags != tc.state {
			t.Errorf("%s: state %d, want %d", tc.name, r.Extents[0].Flags, tc.state)
		}
		check(t, c.Write(0, make([]byte, 64<<10), false))
	}
}

// failing fails every operation with one error.
type failing struct {
	*nbdtest.Memory
	err error
}

func (f failing) TryReadAt([]byte, uint64) bool                       { return false }
func (f failing) TryWriteAt([]byte, uint64) bool                      { return false }
func (f failing) ReadAt(context.Context, []byte, uint64) error        { return f.err }
func (f failing) WriteAt(context.Context, []byte, uint64, bool) error { return f.err }
func (f failing) Flush(context.Context) error                         { return f.err }

func TestErrorsReachTheClient(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want nbdtest.Errno
	}{
		{nbd.ErrPermission, 1},
		{nbd.ErrIO, 5},
		{nbd.ErrInvalid, 22},
		{nbd.ErrNoSpace, 28},
		{nbd.ErrOverflow, 75},
		{nbd.ErrNotSupported, 95},
		{nbd.ErrShutdown, 108},
		{syscall.ENOSPC, 28},
		{syscall.EROFS, 1},
		{errors.New("disk on fire"), 5},
	} {
		c := serve(t, failing{nbdtest.NewMemory(mib), fmt.Errorf("volume x: %w", tc.err)}).dial(t, nbdtest.Options{Structured: true})
		for _, req := range []nbdtest.Request{{Cmd: 0, Len: 512}, {Cmd: 0, Len: mib}, {Cmd: 1, Data: []byte("x")}, {Cmd: 1, Flags: 1, Data: []byte("x")}, {Cmd: 3}} {
			r, err := c.Do(req)
			if !errors.Is(err, tc.want) || !strings.Contains(r.Message, "volume x") {
				t.Errorf("%v: command %d answered %v %q, want errno %d", tc.err, req.Cmd, err, r.Message, tc.want)
			}
		}
		check(t, c.Close())
	}
}

func TestReadOnly(t *testing.T) {
	c := serve(t, nbdtest.NewMemory(mib), func(_ *nbd.Server, e *nbd.Export) { e.ReadOnly = true }).dial(t, nbdtest.Options{})
	if c.Flags&2 == 0 {
		t.Error("READ_ONLY not announced")
	}
	for i := range 3 { // the data of a refused write is skipped, also when it is large
		if err := c.Write(0, make([]byte, 1<<(10*i)), false); !errors.Is(err, nbdtest.Errno(1)) {
			t.Errorf("write: %v, want EPERM", err)
		}
	}
	must[[]byte](t)(c.Read(0, 512))
	check(t, c.Close())
}

func TestStats(t *testing.T) {
	srv := serve(t, nbdtest.NewMemory(mib))
	c := srv.dial(t, nbdtest.Options{})
	check(t, c.Write(0, make([]byte, 4096), false))
	check(t, c.Write(0, make([]byte, 4096), true))
	must[[]byte](t)(c.Read(0, 512))
	check(t, c.Flush())
	c.Read(mib, 512) // refused
	s := srv.export.Stats().Snapshot()
	if s.Write.Ops != 2 || s.Write.Bytes != 8192 || s.Read.Ops != 2 || s.Read.Errors != 1 || s.Flush.Ops != 1 || s.Connections != 1 {
		t.Errorf("counted %+v", s)
	}
	var sum uint64
	for _, n := range s.Write.Latency {
		sum += n
	}
	if q := s.Write.Quantile(0.99); sum != 2 || q == 0 {
		t.Errorf("histogram holds %d writes, p99 %v", sum, q)
	}
}

// TestOutOfOrderUnderLoad mixes hits, misses, writes and flushes from one pipelining client and
// checks every reply.
func TestOutOfOrderUnderLoad(t *testing.T) {
	gate := nbdtest.NewGate(mib, mib/2)
	close(gate.Open) // misses are parked, then answered at once
	gate.Arrived = make(chan struct{}, 1<<20)
	c := serve(t, gate).dial(t, nbdtest.Options{Structured: true})
	pattern := bytes.Repeat([]byte{7}, mib)
	check(t, c.Write(0, pattern, false))
	kinds := []nbdtest.Request{
		{Cmd: 0, Off: 0, Len: 4096},
		{Cmd: 0, Off: mib / 2, Len: 4096},
		{Cmd: 1, Off: 8192, Data: pattern[:4096]},
		{Cmd: 3},
		{Cmd: 0, Off: 4096, Len: 100 << 10},
		{Cmd: 1, Flags: 1, Off: 0, Data: pattern[:70000]},
	}
	const depth, total = 32, 3000
	slots := make(chan struct{}, depth)
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < total && err == nil; i++ {
			slots <- struct{}{}
			_, err = c.Send(kinds[i*7%len(kinds)])
		}
		sent <- err
	}()
	for range total {
		r := must[nbdtest.Reply](t)(c.Recv())
		if r.Err != nil || r.Request.Cmd == 0 && !bytes.Equal(r.Data, pattern[:r.Request.Len]) {
			t.Fatalf("command %d answered %v", r.Request.Cmd, r.Err)
		}
		<-slots
	}
	check(t, <-sent)
	check(t, c.Close())
}
