package guest

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// tty is a virtio-serial port: what was sent is read, and while nobody sends it reads as ended.
type tty struct {
	mu     sync.Mutex
	in     []string
	out    chan string
	err    error // of a port that is unplugged
	closed bool
}

func (p *tty) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return 0, errors.New("closed")
	case p.err != nil:
		return 0, p.err
	case len(p.in) == 0:
		return 0, io.EOF
	}
	n := copy(b, p.in[0])
	p.in = p.in[1:]
	return n, nil
}

func (p *tty) send(s ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.in = append(p.in, s...)
}

func (p *tty) unplug() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = errors.New("no such device")
}

func (p *tty) Write(b []byte) (int, error) { p.out <- string(b); return len(b), nil }

func (p *tty) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

func (p *tty) SetWriteDeadline(time.Time) error { return nil }

// TestServe follows a port through connections that end anywhere, until it is unplugged.
func TestServe(t *testing.T) {
	m := &machine{t: t, root: t.TempDir()}
	m.put("proc/sys/kernel/random/boot_id", "x")
	a := New(Options{Root: m.root, Network: &network{}})
	p := &tty{out: make(chan string, 8)}
	ended := make(chan error, 1)
	go func() { ended <- Serve(t.Context(), a, p) }()

	p.send(`{"id":"1","verb":"ping"}`+"\n"+`{"id":"half","ver`, "\n"+`{"id":"2",`, `"verb":"ping"}`+"\n")
	got := <-p.out + <-p.out
	if !strings.Contains(got, `"id":"1"`) || !strings.Contains(got, `"id":"2"`) {
		t.Errorf("answers %s", got)
	}
	p.send("garbage\n\n\x00\n" + `{"id":"3","verb":"ping"}` + "\n")
	if got := <-p.out; !strings.Contains(got, `"id":"3"`) {
		t.Errorf("answer %s", got)
	}
	p.unplug()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "no such device") || !p.closed {
		t.Errorf("ended with %v", err)
	}
}

func TestServeEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := &tty{out: make(chan string, 1)}
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, New(Options{Root: t.TempDir(), Network: &network{}}), p) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
