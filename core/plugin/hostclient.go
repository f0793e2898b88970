package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// hostClient calls core over the connection that core sent last. The socketpair is
// private to the two processes, hence no TLS on it.
type hostClient struct {
	handles *handleTable

	mu   sync.Mutex
	next net.Conn // sent by core, not dialled yet
	conn *grpc.ClientConn
	came chan struct{} // closed and replaced when core sends a connection
}

var _ Host = (*hostClient)(nil)

func newHostClient(handles *handleTable) *hostClient {
	return &hostClient{handles: handles, came: make(chan struct{})}
}

// connect moves over to a connection that core sent.
func (h *hostClient) connect(c net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next != nil {
		h.next.Close()
	}
	h.next = c
	close(h.came)
	h.came = make(chan struct{})
}

// dial is called by gRPC whenever it has no transport. A socketpair cannot be dialled
// again, so it waits until core sends another.
func (h *hostClient) dial(ctx context.Context, _ string) (net.Conn, error) {
	for {
		h.mu.Lock()
		c, came := h.next, h.came
		h.next = nil
		h.mu.Unlock()
		if c != nil {
			return c, nil
		}
		select {
		case <-came:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// client makes the gRPC client at the first use: a plugin that never calls core pays nothing.
func (h *hostClient) client() (pluginpb.HostClient, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		conn, err := grpc.NewClient("passthrough:///core", append(wire.DialOptions(),
			grpc.WithContextDialer(h.dial),
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))...)
		if err != nil {
			return nil, fmt.Errorf("connect to core: %w", err)
		}
		h.conn = conn
	}
	return pluginpb.NewHostClient(h.conn), nil
}

func (h *hostClient) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn != nil {
		_ = h.conn.Close()
	}
	if h.next != nil {
		h.next.Close()
	}
}

// Claim asks core for one more handle.
func (h *hostClient) Claim(ctx context.Context, w Want) (Handle, error) {
	c, err := h.client()
	if err != nil {
		return Handle{}, err
	}
	r, err := c.Claim(ctx, &pluginpb.ClaimRequest{Want: w})
	if err != nil {
		return Handle{}, fmt.Errorf("claim %s: %w", w.GetName(), wire.Plain(err))
	}
	if r.GetHandle() == nil {
		return Handle{}, errors.New("claim: core answered without a handle")
	}
	return h.handles.resolve(ctx, r.GetHandle())
}

// Release gives a handle back. The feature closes its own descriptor first.
func (h *hostClient) Release(ctx context.Context, name string) error {
	c, err := h.client()
	if err != nil {
		return err
	}
	if _, err := c.Release(ctx, &pluginpb.ReleaseRequest{Name: name}); err != nil {
		return fmt.Errorf("release %s: %w", name, wire.Plain(err))
	}
	return nil
}

// Get reads a key.
func (h *hostClient) Get(ctx context.Context, key string) ([]byte, error) {
	c, err := h.client()
	if err != nil {
		return nil, err
	}
	r, err := c.Get(ctx, &pluginpb.GetRequest{Key: key})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, wire.Plain(err))
	}
	if !r.GetFound() {
		return nil, nil
	}
	if r.GetValue() == nil {
		return []byte{}, nil // found and empty is not the same as not found
	}
	return r.GetValue(), nil
}

// Put writes a key; it is durable when Put returns.
func (h *hostClient) Put(ctx context.Context, key string, value []byte) error {
	c, err := h.client()
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, &pluginpb.PutRequest{Key: key, Value: value}); err != nil {
		return fmt.Errorf("put %s: %w", key, wire.Plain(err))
	}
	return nil
}

// Delete removes a key; a missing one is no error.
func (h *hostClient) Delete(ctx context.Context, key string) error {
	c, err := h.client()
	if err != nil {
		return err
	}
	if _, err := c.Delete(ctx, &pluginpb.DeleteRequest{Key: key}); err != nil {
		return fmt.Errorf("delete %s: %w", key, wire.Plain(err))
	}
	return nil
}

// List returns the keys with a prefix, sorted.
func (h *hostClient) List(ctx context.Context, prefix string) ([]string, error) {
	c, err := h.client()
	if err != nil {
		return nil, err
	}
	r, err := c.List(ctx, &pluginpb.ListRequest{Prefix: prefix})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, wire.Plain(err))
	}
	return r.GetKeys(), nil
}

// Call asks another plugin.
func (h *hostClient) Call(ctx context.Context, plugin, method string, request []byte) ([]byte, error) {
	c, err := h.client()
	if err != nil {
		return nil, err
	}
	r, err := c.Call(ctx, &pluginpb.CallRequest{Plugin: plugin, Method: method, Json: request})
	switch {
	case err == nil:
		return r.GetJson(), nil
	case status.Code(err) == codes.Unavailable:
		return nil, fmt.Errorf("call %s of %s: %w: %w", method, plugin, ErrUnavailable, wire.Plain(err))
	}
	return nil, fmt.Errorf("call %s of %s: %w", method, plugin, wire.Plain(err))
}

// resolve turns the contract's handle into the feature's, with its descriptor.
func (t *handleTable) resolve(ctx context.Context, p *pluginpb.Handle) (Handle, error) {
	h := Handle{
		Name: p.GetName(), Kind: p.GetKind(), ID: p.GetId(),
		Device: p.GetDevice(), Size: p.GetSize(), Fresh: p.GetFresh(),
	}
	if !p.GetHasFd() {
		return h, nil
	}
	f, err := t.take(ctx, h.Name)
	if err != nil {
		return Handle{}, err
	}
	h.File = f
	return h, nil
}
