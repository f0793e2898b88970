package client

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"
)

// patience is one request as far as it has come, so that an error can say what was waited for, and for how long.
type patience struct {
	server  string
	since   time.Time
	reached atomic.Bool // there is a connection: what is missing is the answer
}

// await follows a request made with the context it returns.
func (c *Client) await(ctx context.Context) (context.Context, *patience) {
	p := &patience{server: c.server, since: time.Now()}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { p.reached.Store(true) }}), p
}

// over is err, as the transport has it, with what to look at. errors.Is finds what it found before.
func (p *patience) over(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the address in it is not one
	}
	waited := time.Since(p.since).Round(100 * time.Millisecond)
	// A dialer's own limit is such an error, too.
	late := errors.Is(err, context.DeadlineExceeded)
	switch {
	case late && p.reached.Load():
		return fmt.Errorf("the host at %s has taken the request and not answered for %v; see journalctl -u ratchet-vmhost there, and whether the VM's QEMU hears its monitor: %w", p.server, waited, err)
	case late:
		return fmt.Errorf("the host at %s cannot be reached, tried for %v; see whether it is up and lets this port through: %w", p.server, waited, err)
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOENT): // a socket of the host's own
		return fmt.Errorf("nobody listens on the host at %s; see systemctl status ratchet-vmhost there: %w", p.server, err)
	}
	return fmt.Errorf("ask the host at %s: %w", p.server, err)
}
