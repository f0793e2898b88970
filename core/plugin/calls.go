package plugin

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/wire"
)

// callGrace is how long a change of the configuration waits for calls that run. It is well below what core waits for the
// change, and others must be able to call meanwhile.
const callGrace = 5 * time.Second

// errConfigures is what the caller of an interrupted call is told.
var errConfigures = errors.New(wire.GivesWay)

// calls are those of Invoke that run: a flush may wait for minutes, and a change of the configuration waits for all of
// them. The zero value is ready.
type calls struct {
	grace time.Duration // callGrace but in tests

	mu      sync.Mutex
	running map[*context.CancelCauseFunc]struct{}
}

// begin adds a call. The context ends when it has to give way; end takes it out again.
func (c *calls) begin(ctx context.Context) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running == nil {
		c.running = make(map[*context.CancelCauseFunc]struct{})
	}
	c.running[&cancel] = struct{}{}
	return ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.running, &cancel)
		cancel(nil)
	}
}

// giveWay interrupts the calls that still run after the grace, unless got is called before.
func (c *calls) giveWay() (got func()) {
	grace := c.grace
	if grace == 0 {
		grace = callGrace
	}
	over := false
	t := time.AfterFunc(grace, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for cancel := range c.running {
			if !over {
				(*cancel)(errConfigures)
			}
		}
	})
	return func() {
		t.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		over = true
	}
}
