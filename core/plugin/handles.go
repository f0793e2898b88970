package plugin

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// maxHandles bounds the descriptors that were received and not asked for yet.
const maxHandles = 384

// handleTable keeps received descriptors until the call that mentions them takes them.
type handleTable struct {
	mu      sync.Mutex
	files   map[string]*os.File
	changed chan struct{} // closed and replaced at every arrival
	gone    bool
}

func newHandleTable() *handleTable {
	return &handleTable{files: make(map[string]*os.File), changed: make(chan struct{})}
}

// receive runs until the control socket ends.
func (t *handleTable) receive(c *wire.Control, host *hostClient) error {
	defer c.Close()
	defer t.end()
	for {
		m, f, err := c.Receive()
		if err != nil {
			return err
		}
		switch m.Kind {
		case wire.KindHandle:
			err = t.put(m.Name, f)
		case wire.KindHost:
			var conn net.Conn
			if conn, err = net.FileConn(f); err == nil {
				host.connect(conn)
			}
			f.Close()
		}
		if err != nil {
			return err
		}
	}
}

func (t *handleTable) put(name string, f *os.File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.files[name]; old != nil {
		old.Close()
	} else if len(t.files) >= maxHandles {
		f.Close()
		return fmt.Errorf("receive handle %s: %d are waiting already", name, maxHandles)
	}
	t.files[name] = f
	close(t.changed)
	t.changed = make(chan struct{})
	return nil
}

func (t *handleTable) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gone = true
	close(t.changed)
	t.changed = make(chan struct{})
}

// take waits for the named descriptor. The caller owns it.
func (t *handleTable) take(ctx context.Context, name string) (*os.File, error) {
	for {
		t.mu.Lock()
		f, changed, gone := t.files[name], t.changed, t.gone
		delete(t.files, name)
		t.mu.Unlock()
		if f != nil {
			return f, nil
		}
		if gone {
			return nil, fmt.Errorf("take handle %s: core closed the control socket", name)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("take handle %s: %w", name, ctx.Err())
		}
	}
}
