package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSilence: of a host that does not answer an error says which, for how long, and what to look at.
func TestSilence(t *testing.T) {
	hold := make(chan struct{})
	// One that takes requests and does not answer, and one that begins to.
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hold }))
	begins := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-hold
	}))
	t.Cleanup(func() { close(hold); silent.Close(); begins.Close() })
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	to := func(address string) func(context.Context) (net.Conn, error) {
		return func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", address)
		}
	}
	socket := filepath.Join(t.TempDir(), "control.sock")
	missing := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	lost := func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
	call := func(c *Client, ctx context.Context) error {
		_, err := c.Do(ctx, "web", "query-migrate", nil)
		return err
	}
	channel := func(c *Client, ctx context.Context) error { _, err := c.Channel(ctx, "web", "agent"); return err }
	events := func(c *Client, ctx context.Context) error { return c.Events(ctx, func() {}, func(Event) {}) }
	for _, c := range []struct {
		name string
		dial func(context.Context) (net.Conn, error)
		ask  func(*Client, context.Context) error
		is   error
		want string // in the error, beside the address; # is a time
	}{
		{"takes requests", to(silent.Listener.Addr().String()), call, context.DeadlineExceeded, "has taken the request and not answered for #; see journalctl -u ratchet-vmhost there"},
		{"begins an answer", to(begins.Listener.Addr().String()), call, context.DeadlineExceeded, "not answered for #; see journalctl"},
		{"events", to(silent.Listener.Addr().String()), events, context.DeadlineExceeded, "not answered for #; see journalctl"},
		{"channel", to(silent.Listener.Addr().String()), channel, context.DeadlineExceeded, "not answered for #; see journalctl"},
		{"out of reach", lost, call, context.DeadlineExceeded, "cannot be reached, tried for #; see whether it is up"},
		{"channel out of reach", lost, channel, context.DeadlineExceeded, "cannot be reached, tried for #; see whether"},
		{"no agent", to(free.Addr().String()), call, syscall.ECONNREFUSED, "nobody listens on the host at a:7440; see systemctl status ratchet-vmhost there"},
		{"no socket", missing, call, syscall.ENOENT, "nobody listens on the host at a:7440; see systemctl status ratchet-vmhost there"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client := client("a:7440", c.dial)
			defer client.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			err := c.ask(client, ctx)
			before, after, timed := strings.Cut(c.want, "#")
			if _, rest, ok := strings.Cut(fmt.Sprint(err), before); !ok || timed && !strings.HasPrefix(strings.TrimLeft(rest, "0123456789.m"), "s"+after) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), "host at a:7440") {
				t.Errorf("%v, want %v", err, c.is)
			}
		})
	}
	// What the caller gives up himself is not laid at the host's door.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := call(client("a:7440", lost), ctx); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "see ") {
		t.Error(err)
	}
}

// TestOlderAgent: of a host whose agent is of a version before the request an error says so.
func TestOlderAgent(t *testing.T) {
	older := httptest.NewServer(http.NewServeMux())
	defer older.Close()
	c := client("a:7440", func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", older.Listener.Addr().String())
	})
	defer c.Close()
	if _, err := c.StoodStill(t.Context(), "web"); err == nil || !strings.Contains(err.Error(), "older than the box; update it") {
		t.Error(err)
	}
}
