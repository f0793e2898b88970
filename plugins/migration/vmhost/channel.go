package vmhost

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// channels are those that are in use: QEMU serves one connection each, and leaves a second one waiting without a word.
type channels struct {
	mu     sync.Mutex
	used   map[string]net.Conn
	closed bool
}

// take gives a channel to its newest user; the one before is cut off.
func (c *channels) take(name string, conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	if old := c.used[name]; old != nil {
		old.Close()
	}
	if c.used == nil {
		c.used = map[string]net.Conn{}
	}
	c.used[name] = conn
	return true
}

func (c *channels) give(name string, conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used[name] == conn {
		delete(c.used, name)
	}
}

func (c *channels) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.used {
		conn.Close()
	}
}

// openChannel connects to a character device of a VM.
func (h *Host) openChannel(ctx context.Context, vm, name string) (*machine, net.Conn, error) {
	m, err := h.machine(vm)
	if err != nil {
		return nil, nil, err
	}
	if known := args.Channels(m.record().Shape); !slices.Contains(known, name) {
		return nil, nil, fmt.Errorf("%s has no channel %q, but %q: give it a device with chardev=%s", vm, name, known, name)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", args.Socket(m.dir, name))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to channel %s of %s: %w", name, vm, err)
	}
	if !m.channels.take(name, conn) {
		conn.Close()
		return nil, nil, fmt.Errorf("connect to channel %s of %s: it has ended", name, vm)
	}
	return m, conn, nil
}

// splice copies both ways until either side ends or ctx does.
func splice(ctx context.Context, a, b net.Conn, fromA io.Reader) {
	end := func() {
		a.Close()
		b.Close()
	}
	defer context.AfterFunc(ctx, end)()
	var both sync.WaitGroup
	for _, way := range []struct {
		to   io.Writer
		from io.Reader
	}{{b, fromA}, {a, b}} {
		both.Go(func() {
			_, _ = io.Copy(way.to, way.from) // how a stream ended is told by its end
			end()
		})
	}
	both.Wait()
}
