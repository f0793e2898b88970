package agent_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/agent/guest"
	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

const bootID = "0c0ffee0-0000-4000-8000-000000000001"

// newGuest is the real engine on a tree made up, with one hook, which counts its runs in a file.
func newGuest(t *testing.T) (a *guest.Agent, runs func() int) {
	t.Helper()
	root := t.TempDir()
	put := func(path, text string, mode os.FileMode) {
		file := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	ran := filepath.Join(root, "ran")
	put("proc/sys/kernel/random/boot_id", bootID+"\n", 0o644)
	put("etc/ratchet-guest-agent/hooks/count", "#!/bin/sh\necho >>"+ran+"\n", 0o755)
	return guest.New(guest.Options{Root: root, Version: "v1"}), func() int {
		b, _ := os.ReadFile(ran)
		return len(b)
	}
}

// port is a virtio-serial port: dial connects to it, and the guest sees one stream.
type port struct {
	t     *testing.T
	agent *guest.Agent
	// filter sees each answer before it leaves and may keep it.
	filter func(line []byte) (pass bool)
	dials  atomic.Int32
}

func (p *port) dial(context.Context) (net.Conn, error) {
	p.dials.Add(1)
	here, there := net.Pipe()
	p.t.Cleanup(func() { there.Close() })
	go func() {
		var lines wire.Lines
		var write sync.Mutex
		buf := make([]byte, 4096)
		for {
			n, err := there.Read(buf)
			lines.Feed(buf[:n], func(line []byte) {
				p.agent.Handle(context.Background(), line, func(b []byte) {
					if p.filter != nil && !p.filter(b) {
						there.Close()
						return
					}
					write.Lock()
					defer write.Unlock()
					_, _ = there.Write(b)
				})
			})
			if err != nil {
				return
			}
		}
	}()
	return here, nil
}

func options() agent.Options {
	return agent.Options{Resend: 20 * time.Millisecond, Limit: 5 * time.Second, Idle: 30 * time.Millisecond}
}

func TestRemote(t *testing.T) {
	a, _ := newGuest(t)
	p := &port{t: t, agent: a}
	o := options()
	o.Idle = time.Minute // a busy host pauses between two of them
	c := agent.New(p.dial, o)
	defer c.Close()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if id, err := c.Ping(t.Context()); err != nil || id != bootID {
				t.Errorf("%q, %v", id, err)
			}
		})
	}
	all.Wait()
	if n := p.dials.Load(); n != 1 {
		t.Errorf("dialled %d times", n)
	}
	_, err := c.OnlineCPUs(t.Context(), 4)
	if e := (*wire.Error)(nil); !errors.As(err, &e) || e.Code != wire.Refused {
		t.Errorf("got %v", err)
	}
}

// TestAnswerLost breaks the connection in the place of each of the first answers: the order is done once, and answered.
func TestAnswerLost(t *testing.T) {
	a, runs := newGuest(t)
	var lost atomic.Int32
	p := &port{t: t, agent: a, filter: func([]byte) bool { return lost.Add(1) > 3 }}
	c := agent.New(p.dial, options())
	defer c.Close()
	if err := c.Hook(t.Context(), "count"); err != nil {
		t.Fatal(err)
	}
	if runs() != 1 || p.dials.Load() != 4 {
		t.Errorf("run %d times over %d connections", runs(), p.dials.Load())
	}
}

// TestManagerRestarted gives the same order to a second client, as a manager does that finds it in its journal.
func TestManagerRestarted(t *testing.T) {
	a, runs := newGuest(t)
	p := &port{t: t, agent: a}
	ctx := agent.WithID(t.Context(), "plan-7/3/do")
	for range 2 {
		c := agent.New(p.dial, options())
		if err := c.Hook(ctx, "count"); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if runs() != 1 {
		t.Errorf("run %d times", runs())
	}
}

// TestNoAgent asks ports behind which nobody is, in each way that shows.
func TestNoAgent(t *testing.T) {
	silent := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				if _, err := there.Read(buf); err != nil {
					return
				}
			}
		}()
		return here, nil
	}
	closes := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		there.Close()
		return here, nil
	}
	refuses := func(context.Context) (net.Conn, error) { return nil, errors.New("no such VM") }
	garbage := func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		t.Cleanup(func() { there.Close() })
		go func() {
			buf := make([]byte, 512)
			for {
				if _, err := there.Read(buf); err != nil {
					return
				}
				if _, err := there.Write([]byte("login: \n{\"id\":\"somebody else's\",\"result\":{}}\n" + strings.Repeat("x", 1000))); err != nil {
					return
				}
			}
		}()
		return here, nil
	}
	for name, dial := range map[string]func(context.Context) (net.Conn, error){"silent": silent, "closes": closes, "refuses": refuses, "garbage": garbage} {
		t.Run(name, func(t *testing.T) {
			c := agent.New(dial, options())
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := c.Ping(ctx)
			if !errors.Is(err, agent.ErrNoAgent) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if name == "refuses" && !strings.Contains(err.Error(), "no such VM") {
				t.Errorf("the reason is not in %v", err)
			}
		})
	}
}

func TestClosed(t *testing.T) {
	a, _ := newGuest(t)
	p := &port{t: t, agent: a, filter: func([]byte) bool { return false }}
	dialled := make(chan struct{})
	once := sync.OnceFunc(func() { close(dialled) })
	c := agent.New(func(ctx context.Context) (net.Conn, error) { once(); return p.dial(ctx) }, options())
	failed := make(chan error)
	go func() { _, err := c.Ping(t.Context()); failed <- err }()
	<-dialled
	c.Close()
	if err := <-failed; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Ping(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
