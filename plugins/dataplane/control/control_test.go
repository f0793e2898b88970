package control_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/control/controltest"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("no %s after 20 s", what)
		panic("unreachable")
	}
}

func echo(b *controltest.Box) {
	b.Server().HandleCall("echo", func(_ context.Context, host string, req []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%s: %s", host, req), nil
	})
	b.Server().HandleDatagram(control.KindBeat, func(host string, seq uint64, p []byte) []byte {
		return fmt.Appendf(nil, "%s %s", host, p)
	})
}

func TestCall(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	b.Server().HandleCall("fail", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("no such group") })
	b.Serve()
	c := b.Client("web-1", control.ClientOptions{})
	b.Run(c)
	var out []byte
	if err := c.Call(within(t, 5*time.Second), "echo", []byte("hello"), &out); err != nil || string(out) != "web-1: hello" {
		t.Errorf("echo: %q, %v", out, err)
	}
	var failed *control.CallError
	if err := c.Call(within(t, 5*time.Second), "fail", nil, nil); !errors.As(err, &failed) || failed.Message != "no such group" {
		t.Errorf("fail: %v", err)
	}
	if err := c.Call(within(t, 5*time.Second), "unheard", nil, nil); !errors.As(err, &failed) || !strings.Contains(failed.Message, "unheard") {
		t.Errorf("unknown method: %v", err)
	}
	large := []byte(strings.Repeat("x", control.MaxMessage-100))
	if err := c.Call(within(t, 20*time.Second), "echo", large, &out); err != nil || len(out) != len(large)+len("web-1: ") {
		t.Errorf("large: %d bytes, %v", len(out), err)
	}
	if err := c.Call(within(t, 5*time.Second), "echo", append(large, make([]byte, 200)...), nil); err == nil {
		t.Error("too long a request was sent")
	}
}

// A long poll holds up nothing, and ends at the box when the host stops waiting.
func TestLongPoll(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	began, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	b.Server().HandleCall("poll", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	})
	b.Serve()
	c := b.Client("web-1", control.ClientOptions{})
	b.Run(c)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- c.Call(ctx, "poll", nil, nil) }()
	receive(t, "poll", began)
	if err := c.Call(within(t, 5*time.Second), "echo", nil, nil); err != nil {
		t.Errorf("call beside a poll: %v", err)
	}
	cancel()
	if err := receive(t, "result", result); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled poll: %v", err)
	}
	receive(t, "end at the box", ended)
}

func TestCallsInFlightAreBounded(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	var now, most atomic.Int64
	release := make(chan struct{})
	b.Server().HandleCall("poll", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		most.Store(max(most.Load(), now.Add(1)))
		<-release
		return nil, nil
	})
	b.Serve()
	c := b.Client("web-1", control.ClientOptions{})
	b.Run(c)
	var wg sync.WaitGroup
	var refused atomic.Int64
	for range 100 {
		wg.Go(func() {
			if err := c.Call(within(t, 10*time.Second), "poll", nil, nil); err != nil {
				if refused.Add(1) == 36 {
					close(release)
				}
			}
		})
	}
	wg.Wait()
	if refused.Load() != 36 || most.Load() > 64 {
		t.Errorf("%d refused, %d at a time; want 36 and at most 64", refused.Load(), most.Load())
	}
}

func TestExchangeAndSend(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	b.Serve()
	c := b.Client("web-1", control.ClientOptions{})
	pushed := make(chan string, 1)
	c.HandleDatagram(control.KindGroupAck, func(p []byte) { pushed <- string(p) })
	b.Run(c)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			got, err := c.Exchange(within(t, 5*time.Second), control.KindBeat, fmt.Append(nil, i))
			if err != nil || string(got) != fmt.Sprintf("web-1 %d", i) {
				t.Errorf("exchange %d: %q, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	if err := b.Server().Send("web-1", control.KindGroupAck, []byte("epoch 7")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, "push", pushed); got != "epoch 7" {
		t.Errorf("pushed %q", got)
	}
	if err := b.Server().Send("web-2", control.KindGroupAck, nil); !errors.Is(err, control.ErrNotJoined) {
		t.Errorf("send to a stranger: %v", err)
	}
	if _, err := c.Exchange(within(t, time.Second), control.KindBeat, make([]byte, control.MaxPayload+1)); err == nil {
		t.Error("too long a payload was sent")
	}
}

// The sequence number is the cipher's nonce: whoever sends, none is used twice.
func TestNoNonceTwice(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	b.Serve()
	tap := &tap{}
	c := b.Client("web-1", control.ClientOptions{ListenPacket: tap.listen})
	b.Run(c)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if err := c.Send(control.KindGroupAck, nil); err != nil {
					t.Error(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				if _, err := c.Exchange(ctx, control.KindBeat, nil); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, d := range tap.taken() {
		if key := string(d[4:20]); seen[key] { // key id and sequence number
			t.Fatalf("number %x was used twice", key)
		} else {
			seen[key] = true
		}
	}
	if len(seen) < 800 {
		t.Errorf("%d datagrams were sent", len(seen))
	}
}

func TestRestartedBoxIsJoinedAgain(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	b.Serve()
	c := b.Client("web-1", control.ClientOptions{})
	joins := make(chan struct{}, 8)
	c.OnJoin(func() { joins <- struct{}{} })
	b.Run(c)
	receive(t, "first join", joins)
	for range 3 {
		b.Restart()
		echo(b)
		b.Serve()
		receive(t, "join", joins)
		if err := c.Call(within(t, 5*time.Second), "echo", nil, nil); err != nil {
			t.Errorf("call after the restart: %v", err)
		}
		if _, err := c.Exchange(within(t, 5*time.Second), control.KindBeat, nil); err != nil {
			t.Errorf("exchange after the restart: %v", err)
		}
	}
}

func TestRevocationEndsTheSession(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	left := make(chan bool, 8)
	b.Server().OnHost(func(_ string, joined bool) { left <- joined })
	b.Serve()
	c := b.Client("web-1", control.ClientOptions{})
	b.Run(c)
	if !receive(t, "join", left) {
		t.Fatal("left before it joined")
	}
	if err := b.Authority().Revoke(t.Context(), "web-1"); err != nil {
		t.Fatal(err)
	}
	if receive(t, "end", left) {
		t.Error("joined again with a void certificate")
	}
	if _, err := c.Exchange(within(t, 300*time.Millisecond), control.KindBeat, nil); err == nil {
		t.Error("the datagram key outlived its certificate")
	}
	if hosts := b.Server().Hosts(); len(hosts) != 0 {
		t.Errorf("hosts %+v", hosts)
	}
}

// An older file of the same name is void, and so is a box that the host does not know.
func TestWhoIsLetIn(t *testing.T) {
	b, other := controltest.Server(t, controltest.Options{}), controltest.Server(t, controltest.Options{})
	b.Serve()
	old := b.Identity("web-1")
	b.Identity("web-1")
	joined := make(chan struct{}, 8)
	b.Server().OnHost(func(string, bool) { joined <- struct{}{} })
	for name, id := range map[string]*control.Identity{"older file": old, "another box's file": other.Identity("web-1")} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		c := control.NewClient(control.ClientOptions{Address: b.Address(), Identity: id})
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		select {
		case <-joined:
			t.Errorf("%s is let in", name)
		default:
		}
	}
}

// slowState takes its time to store an enrolment: until release is closed, when hold says so.
type slowState struct {
	*controltest.MemoryState
	hold             atomic.Bool
	storing, release chan struct{}
}

func (s *slowState) Put(ctx context.Context, key string, value []byte) error {
	if s.hold.Load() {
		close(s.storing)
		<-s.release
	}
	return s.MemoryState.Put(ctx, key, value)
}

// A host that has shaken hands when the box is stopped does not keep it from ending.
func TestStopWhileAHostJoins(t *testing.T) {
	state := &slowState{MemoryState: controltest.NewMemoryState(), storing: make(chan struct{}), release: make(chan struct{})}
	b := controltest.Server(t, controltest.Options{State: state})
	first, late := b.Client("web-1", control.ClientOptions{}), b.Identity("web-2")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Server().Serve(ctx) }()
	b.Run(first)
	// While an enrolment is stored nobody can be asked whether a host's file is valid: who joins now waits there.
	state.hold.Store(true)
	enrolled := make(chan struct{})
	go func() {
		defer close(enrolled)
		if _, err := b.Authority().Enroll(t.Context(), "web-3"); err != nil {
			t.Error(err)
		}
	}()
	receive(t, "enrolment", state.storing)
	conn, err := tls.Dial("tcp", b.Address(), late.ClientTLS("ratchet-dataplane"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	eventually(t, "the host has shaken hands", func() bool {
		stacks := make([]byte, 1<<20)
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("enrol.(*Authority).Valid("))
	})
	stop()
	eventually(t, "the other host's connection has been ended", func() bool { return !first.Joined() })
	close(state.release)
	<-enrolled
	if err := receive(t, "end of the server", ended); err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not after 20 s: %s", what)
		}
	}
}

func TestNewestSessionOfAHostCounts(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	echo(b)
	b.Serve()
	id := b.Identity("web-1")
	first := b.Client("web-1", control.ClientOptions{Identity: id})
	b.Run(first)
	second := b.Client("web-1", control.ClientOptions{Identity: id})
	b.Run(second)
	if err := second.Call(within(t, 5*time.Second), "echo", nil, nil); err != nil {
		t.Errorf("the newest session: %v", err)
	}
	if h := b.Server().Hosts(); len(h) != 1 || h[0].Sessions < 2 {
		t.Errorf("hosts %+v", h)
	}
}

func TestEnrolmentSurvives(t *testing.T) {
	state := controltest.NewMemoryState()
	b := controltest.Server(t, controltest.Options{State: state})
	id := b.Identity("web-1")
	b.Identity("web-2")
	if err := b.Authority().Revoke(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	again := controltest.Server(t, controltest.Options{State: state})
	again.Serve()
	if got := again.Authority().Names(); len(got) != 1 || got[0] != "web-1" {
		t.Errorf("enrolled %v", got)
	}
	again.Run(again.Client("web-1", control.ClientOptions{Identity: id}))
	if err := again.Authority().Revoke(t.Context(), "web-2"); err == nil {
		t.Error("revoked twice")
	}
	for _, bad := range []string{"", "Web", "a.b", "-a", "a-", "a/b", strings.Repeat("a", 64)} {
		if _, err := again.Authority().Enroll(t.Context(), bad); err == nil {
			t.Errorf("enrolled %q", bad)
		}
	}
}

// Replayed and forged datagrams reach no handler; they are counted.
func TestReplayAndForgery(t *testing.T) {
	b := controltest.Server(t, controltest.Options{})
	var seen sync.Map
	var handled, twice atomic.Int64
	b.Server().HandleDatagram(control.KindCapacity, func(_ string, seq uint64, _ []byte) []byte {
		handled.Add(1)
		if _, again := seen.LoadOrStore(seq, true); again {
			twice.Add(1)
		}
		return []byte{}
	})
	b.Serve()
	tap := &tap{}
	c := b.Client("web-1", control.ClientOptions{ListenPacket: tap.listen})
	b.Run(c)
	const n = 200
	for range n {
		if _, err := c.Exchange(within(t, 5*time.Second), control.KindCapacity, []byte("limit 5")); err != nil {
			t.Fatal(err)
		}
	}
	attacker, err := net.Dial("udp", b.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer attacker.Close()
	for _, d := range tap.taken() {
		attacker.Write(d) // replayed
		for _, at := range []int{1, 5, 12, 19, 20, len(d) - 1} {
			forged := append([]byte(nil), d...)
			forged[at] ^= 1
			attacker.Write(forged)
		}
		attacker.Write(d[:len(d)/2])
	}
	// What comes after the attack is served as before, but that the attack may have filled the box's socket.
	attempts := int64(1)
	for ; attempts < 20; attempts++ {
		if _, err = c.Exchange(within(t, 200*time.Millisecond), control.KindCapacity, nil); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := handled.Load(); got <= n || got > n+attempts || twice.Load() != 0 {
		t.Errorf("%d handled, %d of them twice; want %d and 0", handled.Load(), twice.Load(), n+attempts)
	}
	if h := b.Server().Hosts()[0]; h.Replayed == 0 || h.Forged == 0 {
		t.Errorf("nothing counted: %+v", h)
	}
}

// tap keeps a copy of what the host sends.
type tap struct {
	mu   sync.Mutex
	sent [][]byte
}

type tapped struct {
	net.PacketConn
	tap *tap
}

func (t *tap) listen(network string) (net.PacketConn, error) {
	p, err := net.ListenPacket(network, "127.0.0.1:0")
	return tapped{p, t}, err
}

func (t *tap) taken() [][]byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([][]byte(nil), t.sent...)
}

func (t tapped) WriteTo(b []byte, to net.Addr) (int, error) {
	t.tap.mu.Lock()
	t.tap.sent = append(t.tap.sent, append([]byte(nil), b...))
	t.tap.mu.Unlock()
	return t.PacketConn.WriteTo(b, to)
}
