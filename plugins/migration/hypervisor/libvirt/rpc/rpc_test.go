package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

var hello = Proc{Program: 0x20008086, Version: 1, Number: 66}

// daemon is the other end of a connection, which says what a test tells it to.
type daemon struct {
	t  *testing.T
	nc net.Conn
}

// connect returns both ends.
func connect(t *testing.T, o Options) (*Conn, daemon) {
	here, there := net.Pipe()
	c := New(here, o)
	t.Cleanup(func() { c.Close(); there.Close() })
	return c, daemon{t, there}
}

// receive takes what the client has sent. readMessage refuses calls, which only clients make, so it is not used.
func (d daemon) receive() message {
	d.t.Helper()
	var length [4]byte
	if _, err := io.ReadFull(d.nc, length[:]); err != nil {
		d.t.Errorf("daemon: %v", err)
		return message{}
	}
	b := make([]byte, binary.BigEndian.Uint32(length[:])-4)
	if _, err := io.ReadFull(d.nc, b); err != nil {
		d.t.Errorf("daemon: %v", err)
		return message{}
	}
	x := xdr.NewDecoder(b)
	return message{header{Proc{x.Uint32(), x.Uint32(), x.Int32()}, x.Int32(), x.Uint32(), x.Int32()}, b[headerSize:]}
}

func (d daemon) send(m message) {
	d.t.Helper()
	if _, err := d.nc.Write(m.encode()); err != nil {
		d.t.Errorf("daemon: %v", err)
	}
}

// answer replies to a message with another status and payload.
func (d daemon) answer(to message, kind, status int32, payload string) {
	to.kind, to.status, to.payload = kind, status, []byte(payload)
	d.send(to)
}

// refusal is the payload of an error.
func refusal(code int32, text string) string {
	var e xdr.Encoder
	e.Int32(code)
	e.Int32(10)
	e.Optional(text)
	e.Int32(2)
	e.Bool(true) // a domain
	e.String("vm")
	e.Fixed(make([]byte, 16))
	e.Int32(-1)
	e.Optional("detail")
	e.Optional("")
	e.Optional("")
	e.Int32(0)
	e.Int32(0)
	e.Bool(true) // a network
	e.String("net")
	e.Fixed(make([]byte, 16))
	return string(e.Bytes())
}

// TestAnswersInAnyOrder: two calls wait, the second is answered first.
func TestAnswersInAnyOrder(t *testing.T) {
	c, d := connect(t, Options{})
	results := make(chan string, 2)
	call := func(args string) {
		b, err := c.Call(t.Context(), hello, []byte(args))
		results <- args + "=" + string(b)
		if err != nil {
			t.Error(err)
		}
	}
	go call("aaaa")
	first := d.receive()
	go call("bbbb")
	second := d.receive()
	d.answer(second, typeReply, statusOK, "for "+string(second.payload))
	d.answer(second, typeReply, statusOK, "nobody asked again")
	if got := <-results; got != "bbbb=for bbbb" {
		t.Error(got)
	}
	d.answer(first, typeReply, statusOK, "for "+string(first.payload))
	if got := <-results; got != "aaaa=for aaaa" {
		t.Error(got)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(d daemon, call message)
		code   Code
		want   error
		text   string
	}{
		{name: "refused", answer: func(d daemon, m message) { d.answer(m, typeReply, statusError, refusal(42, "Domain not found")) }, code: CodeNoDomain, text: "Domain not found"},
		{name: "refused without words", answer: func(d daemon, m message) { d.answer(m, typeReply, statusError, refusal(55, "")) }, code: CodeOperationInvalid, text: "error 55"},
		{name: "refusal that cannot be read", answer: func(d daemon, m message) { d.answer(m, typeReply, statusError, "four") }, want: ErrProtocol},
		{name: "refusal that goes on", answer: func(d daemon, m message) { d.answer(m, typeReply, statusError, refusal(1, "x")+"more") }, want: ErrProtocol},
		{name: "to another procedure", answer: func(d daemon, m message) { m.proc.Number++; d.answer(m, typeReply, statusOK, "") }, want: ErrProtocol},
		{name: "that is to be continued", answer: func(d daemon, m message) { d.answer(m, typeReply, statusContinue, "") }, want: ErrProtocol},
		{name: "that is a call", answer: func(d daemon, m message) { d.answer(m, typeCall, statusOK, "") }, want: ErrProtocol},
		{name: "of no status", answer: func(d daemon, m message) { d.answer(m, typeReply, 7, "") }, want: ErrProtocol},
		{name: "shorter than a header", answer: func(d daemon, _ message) { d.nc.Write([]byte{0, 0, 0, 27}) }, want: ErrProtocol},
		{name: "longer than any", answer: func(d daemon, _ message) { d.nc.Write([]byte{0x7f, 0, 0, 0}) }, want: ErrProtocol},
		{name: "that breaks off", answer: func(d daemon, _ message) { d.nc.Write([]byte{0, 0, 0, 40, 1, 2}); d.nc.Close() }, want: io.ErrUnexpectedEOF},
		{name: "none", answer: func(d daemon, _ message) { d.nc.Close() }, want: io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, d := connect(t, Options{})
			go func() { c.answer(d, d.receive()) }()
			_, err := conn.Call(t.Context(), hello, nil)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || c.code != 0 && !IsCode(err, 1, c.code) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestGivenUp: an answer that comes after its call was given up is dropped, and the connection goes on.
func TestGivenUp(t *testing.T) {
	c, d := connect(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := c.Call(ctx, hello, nil); done <- err }()
	late := d.receive()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	d.answer(late, typeReply, statusOK, "late")
	go func() { d.answer(d.receive(), typeReply, statusOK, "ok") }()
	if b, err := c.Call(t.Context(), hello, nil); err != nil || string(b) != "ok" {
		t.Error(string(b), err)
	}
}

func TestTooManyCalls(t *testing.T) {
	c, d := connect(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range maxPending {
		go c.Call(ctx, hello, nil)
		d.receive()
	}
	if _, err := c.Call(ctx, hello, nil); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
}

func TestEvents(t *testing.T) {
	got := make(chan string, 1)
	_, d := connect(t, Options{Event: func(p Proc, b []byte) { got <- string(b) }})
	d.send(message{header{hello, typeMessage, 0, statusOK}, []byte("happened")})
	if s := <-got; s != "happened" {
		t.Error(s)
	}
}

// TestKeepAlive: the daemon's questions are answered; ours are asked when nothing else was heard, and a daemon that does
// not answer three of them is gone.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, d := connect(t, Options{KeepAlive: time.Second})
		go d.send(keepAliveMessage(keepAlivePing))
		if m := d.receive(); m.proc.Program != keepAliveProgram || m.proc.Number != keepAlivePong {
			t.Errorf("answer to a question: %+v", m)
		}
		start := time.Now()
		for range 3 {
			if m := d.receive(); m.proc.Number != keepAlivePing {
				t.Errorf("question: %+v", m)
			}
			d.send(keepAliveMessage(keepAlivePong))
		}
		go io.Copy(io.Discard, d.nc)
		<-c.Done()
		if err := c.Err(); !errors.Is(err, ErrSilent) {
			t.Error(err)
		}
		if age := time.Since(start); age < 6*time.Second || age > 12*time.Second {
			t.Errorf("missed after %v", age)
		}
	})
}

// open opens a stream.
func open(t *testing.T, c *Conn, d daemon) (*Stream, message) {
	t.Helper()
	calls := make(chan message, 1)
	go func() {
		m := d.receive()
		d.answer(m, typeReply, statusOK, "")
		calls <- m
	}()
	s, err := c.Open(t.Context(), hello, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, <-calls
}

// TestUnanswered: a daemon that lives and does not answer is told of with how long it was waited for; who gives up himself
// hears only that.
func TestUnanswered(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		is   error
		want string
	}{
		{"limit", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 10*time.Second)
		}, context.DeadlineExceeded, "libvirt has not answered for 10s; see its log, and virsh domjobinfo"},
		{"given up", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, context.Canceled, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, d := connect(t, Options{})
				go d.receive()
				ctx, cancel := c.end(t.Context())
				defer cancel()
				if _, err := conn.Call(ctx, hello, nil); !errors.Is(err, c.is) || !strings.HasPrefix(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			})
		})
	}
}

func TestStream(t *testing.T) {
	c, d := connect(t, Options{})
	s, m := open(t, c, d)
	go s.Write(make([]byte, maxStream+1))
	for _, want := range []int{maxStream, 1} {
		if p := d.receive(); p.kind != typeStream || p.serial != m.serial || p.status != statusContinue || len(p.payload) != want {
			t.Errorf("packet of %d bytes: %+v", len(p.payload), p.header)
		}
	}
	d.answer(m, typeStream, statusContinue, "one ")
	d.answer(m, typeStream, statusContinue, "two")
	d.answer(m, typeStream, statusOK, "")
	if b, err := io.ReadAll(s); string(b) != "one two" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after the end: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

// TestStreamEnds: in each way that a stream ends its reader is told, and the daemon if it does not know.
func TestStreamEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		end     func(t *testing.T, c *Conn, s *Stream, d daemon, m message)
		want    error
		abort   bool
		orderly bool
	}{
		{"refused", func(_ *testing.T, _ *Conn, _ *Stream, d daemon, m message) {
			d.answer(m, typeStream, statusError, refusal(38, "gone"))
		}, nil, false, false},
		{"empty packet", func(_ *testing.T, _ *Conn, _ *Stream, d daemon, m message) {
			d.answer(m, typeStream, statusContinue, "")
		}, nil, false, true},
		{"deadline", func(_ *testing.T, _ *Conn, s *Stream, _ daemon, _ message) { s.SetDeadline(time.Now()) }, os.ErrDeadlineExceeded, true, false},
		{"closed", func(_ *testing.T, _ *Conn, s *Stream, _ daemon, _ message) { go s.Close() }, net.ErrClosed, true, false},
		{"connection", func(_ *testing.T, c *Conn, _ *Stream, _ daemon, _ message) { c.Close() }, ErrClosed, false, false},
		{"not read", func(_ *testing.T, _ *Conn, _ *Stream, d daemon, m message) {
			for range maxBuffered/maxStream + 1 {
				d.answer(m, typeStream, statusContinue, strings.Repeat("x", maxStream))
			}
			// The answer to a question says that all before it has arrived.
			d.send(keepAliveMessage(keepAlivePing))
			d.receive()
		}, ErrSlow, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, d := connect(t, Options{})
			s, m := open(t, conn, d)
			c.end(t, conn, s, d, m)
			_, err := io.Copy(io.Discard, s)
			// io.Copy takes the end of a stream for success.
			if (err == nil) != c.orderly || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("reader is told %v", err)
			}
			go s.Close()
			if c.abort {
				if p := d.receive(); p.kind != typeStream || p.status != statusError || parseError(p.payload).Error() != "libvirt error 0" {
					t.Errorf("the daemon is told %+v", p)
				}
			}
		})
	}
}

func TestStreamRefused(t *testing.T) {
	c, d := connect(t, Options{})
	go func() { d.answer(d.receive(), typeReply, statusError, refusal(1, "no such channel")) }()
	if s, err := c.Open(t.Context(), hello, nil); s != nil || !IsCode(err, 1) {
		t.Error(s, err)
	}
	if len(c.streams) != 0 {
		t.Error("the stream is kept")
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]Address{
		"unix:/run/libvirt/libvirt-sock": {"unix", "/run/libvirt/libvirt-sock"},
		"tls:host":                       {"tls", "host:16514"},
		"tls:host:1":                     {"tls", "host:1"},
		"tls:[fd00::1]":                  {"tls", "[fd00::1]:16514"},
		"tls:[fd00::1]:7":                {"tls", "[fd00::1]:7"},
		"unix:relative":                  {}, "tcp:host:1": {}, "tls:": {}, "tls::1": {}, "": {},
	} {
		if got, err := ParseAddress(in); got != want || (err == nil) != (want != Address{}) {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

// FuzzReceive gives a client whatever a daemon might say: its call ends, and so does the connection.
func FuzzReceive(f *testing.F) {
	f.Add(message{header{hello, typeReply, 1, statusOK}, []byte("answer")}.encode())
	f.Add(message{header{hello, typeReply, 1, statusError}, []byte(refusal(42, "no"))}.encode())
	f.Add(message{header{hello, typeStream, 1, statusContinue}, []byte("data")}.encode())
	f.Add(keepAliveMessage(keepAlivePing).encode())
	f.Add([]byte{0, 0, 0, 28})
	f.Fuzz(func(t *testing.T, in []byte) {
		here, there := net.Pipe()
		c := New(here, Options{Event: func(Proc, []byte) {}})
		go io.Copy(io.Discard, there)
		go func() { there.Write(in); there.Close() }()
		if b, err := c.Call(t.Context(), hello, nil); err == nil && len(b) > len(in) {
			t.Errorf("an answer of %d bytes out of %d", len(b), len(in))
		}
		<-c.Done()
	})
}
