package gateway

import (
	"context"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// arrival is how long a client that asks for a volume on its way up is kept waiting; it is less than the time that the
// server gives a handshake. A blank disk is formatted and the store asked in far less, if both work.
const arrival = 8 * time.Second

// arriving is the set of exports as clients see it: one that is configured and not there yet is waited for, so that
// a client that starts together with the box is not told that its volume does not exist.
type arriving struct {
	*nbd.Set
	ctx     context.Context // of the service
	runners []*runner
}

var _ nbd.Exports = arriving{}

// Lookup implements nbd.Exports.
func (a arriving) Lookup(name string) *nbd.Export {
	if e := a.Set.Lookup(name); e != nil {
		return e
	}
	for _, r := range a.runners {
		// The empty name is the only export's; among several there is no default.
		if r.name == name || name == "" && len(a.runners) == 1 {
			r.await(a.ctx, arrival)
			return a.Set.Lookup(name)
		}
	}
	return nil
}

// await returns when the volume serves, cannot without somebody's help, or the time is over.
func (r *runner) await(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		changed, state := r.look()
		if state != stateStarting && state != stateWaiting {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// look returns the state and a channel that is closed when it may have changed.
func (r *runner) look() (<-chan struct{}, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moved == nil {
		r.moved = make(chan struct{})
	}
	if r.volume != nil {
		return r.moved, "up"
	}
	return r.moved, r.state
}
