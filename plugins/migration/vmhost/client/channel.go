package client

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Channel connects to a character device of a VM. The newest connection has it: an older one is closed.
func (c *Client) Channel(ctx context.Context, vm, name string) (net.Conn, error) {
	_, patience := c.await(ctx)
	req, err := c.request(ctx, http.MethodPost, at(vm, "channel/"+name), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", ChannelProtocol)
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("open channel %s of %s: %w", name, vm, patience.over(err))
	}
	patience.reached.Store(true)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	r := bufio.NewReader(conn)
	resp, err := upgrade(conn, r, req)
	if !stop() {
		err = ctx.Err() // whose end is what has interrupted it, if anything has
	}
	if err != nil {
		err = patience.over(err)
	}
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		resp.Body.Close()
		err = problem(resp.StatusCode, b)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open channel %s of %s: %w", name, vm, err)
	}
	return &buffered{Conn: conn, r: r}, nil
}

func upgrade(conn net.Conn, r *bufio.Reader, req *http.Request) (*http.Response, error) {
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(r, req)
}

// buffered gives out first what came together with the answer.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }
