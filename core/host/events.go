package host

import (
	"context"
	"sync"
	"time"
)

// eventBacklog is what a subscriber may be behind.
const eventBacklog = 64

// Event is a change of a plugin's state.
type Event struct {
	Plugin  string
	State   string
	Message string
	Time    time.Time
}

// events fans out to subscribers and never blocks. The zero value is ready.
type events struct {
	mu   sync.Mutex
	subs map[chan Event]struct{}
}

func (e *events) subscribe(ctx context.Context) <-chan Event {
	c := make(chan Event, eventBacklog)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.subs == nil {
		e.subs = make(map[chan Event]struct{})
	}
	e.subs[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.subs, c)
		close(c)
	})
	return c
}

func (e *events) send(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.subs {
		for sent := false; !sent; {
			select {
			case c <- ev:
				sent = true
			default:
				select {
				case <-c: // make room
				default:
				}
			}
		}
	}
}
