package vmhost

import (
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// waiting is how many events may wait to be taken by one who listens.
const waiting = 256

// hub hands events to all who listen.
type hub struct {
	mu        sync.Mutex
	listeners map[chan client.Event]struct{}
	closed    bool
}

// listen returns a channel that is closed by stop, when the hub closes, or when its reader falls behind.
func (h *hub) listen() (events <-chan client.Event, stop func()) {
	c := make(chan client.Event, waiting)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return c, func() {}
	}
	if h.listeners == nil {
		h.listeners = map[chan client.Event]struct{}{}
	}
	h.listeners[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(c)
	}
}

func (h *hub) drop(c chan client.Event) {
	if _, ok := h.listeners[c]; ok {
		delete(h.listeners, c)
		close(c)
	}
}

func (h *hub) publish(e client.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.listeners {
		select {
		case c <- e:
		default:
			h.drop(c)
		}
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.listeners {
		h.drop(c)
	}
}
