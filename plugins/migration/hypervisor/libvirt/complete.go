package libvirt

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// Complete implements hypervisor.Transfer.
func (x *transfer) Complete(ctx context.Context) error {
	if err := x.sent(ctx); err != nil {
		return err
	}
	x.note(ctx)
	select {
	case <-x.finish(!x.fetches()):
	case <-ctx.Done():
		return fmt.Errorf("complete move of %s at %s: %w", x.m.VM, x.m.To, ctx.Err())
	}
	if x.endErr != nil {
		return fmt.Errorf("complete move of %s at %s: %w", x.m.VM, x.m.To, x.endErr)
	}
	return nil
}

// fetches tells whether the destination runs before it has everything.
func (x *transfer) fetches() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.postCopy
}

// finish makes the destination a domain like any other, stopped or running. It is done once, and closes the channel.
func (x *transfer) finish(paused bool) <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ended == nil {
		x.ended = make(chan struct{})
		go func() {
			defer close(x.ended)
			x.endErr = x.call(paused)
		}()
	}
	return x.ended
}

// call makes the call of finish, and looks at what has come of it.
func (x *transfer) call(paused bool) error {
	a := x.p.moves.arrival(x.m.ID, x.m.To)
	if a == nil {
		return errors.New("the destination is gone")
	}
	flags := a.ticket.Flags | x.armed.flags()
	if paused {
		flags |= remote.MigratePaused
	}
	// Like Perform3 it ends with its connection at the latest: how long the rest takes is not known here.
	ctx := context.Background()
	dom, cookie, err := a.conn.MigrateFinish(ctx, nameOnly(a.vm), x.cookie, flags, false)
	if err != nil {
		return err
	}
	if err := a.port.arrivedWell(ctx, dom, x.m, paused); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.finished, x.complete = cookie, true
	return nil
}

// nameOnly is how Finish3 is told which domain it is about.
func nameOnly(vm string) remote.Params {
	return remote.Params{{Name: "destination_name", Value: vm}}
}
