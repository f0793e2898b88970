package qmp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// A post-copy whose link is cut has its guest in two places: both sides keep what they have and wait. It goes on over a
// new connection, if there is one; with either side gone the guest is lost.

// lookLimit bounds a look at either side of a post-copy: the destination's main loop stands still when it wants a page
// itself that does not come.
const lookLimit = 2 * time.Second

// sourceLimit bounds how long the source of a post-copy is waited for once the destination is complete.
const sourceLimit = 10 * time.Second

// rest waits until the destination has what was still at the source. The destination says so: what the source says is of
// no more consequence, but that the link is cut.
func (t *transfer) rest(ctx context.Context) error {
	peer, ok := t.peer.(*Port)
	if !ok {
		return t.watch(ctx, func(g hypervisor.Progress) bool { return g.Phase == "completed" })
	}
	err := peer.await(ctx, func() (bool, error) {
		look, cancel := context.WithTimeout(peer.as(ctx, t.m), lookLimit)
		defer cancel()
		is, err := peer.migration(look, t.m.VM)
		switch {
		case ctx.Err() == nil && look.Err() != nil:
		case err != nil || is.Status == "completed":
			t.done(is)
			return err == nil, err
		}
		look, stop := context.WithTimeout(ctx, lookLimit)
		defer stop()
		g, err := t.advance(look)
		switch {
		case ctx.Err() == nil && look.Err() != nil:
			return false, nil
		case err != nil:
			return false, err
		case g.Phase == "failed":
			return false, fmt.Errorf("the post-copy of %s has failed: %s", t.m.VM, g.Problem)
		case t.isCut():
			return false, t.recover(ctx)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	// The source is told, and is done a moment later; it has no say any more if it is not.
	end, cancel := context.WithTimeout(ctx, sourceLimit)
	defer cancel()
	err = t.p.await(end, func() (bool, error) {
		is, err := t.p.migration(end, t.m.VM)
		return !is.under(), err
	})
	if err != nil && ctx.Err() == nil && end.Err() != nil {
		err = nil
	}
	return err
}

// done makes the last figures those of a transfer that is complete.
func (t *transfer) done(is migration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if is.Status == "completed" {
		t.last.Phase, t.last.Remaining, t.last.Problem, t.cut = "completed", 0, "", false
	}
}

func (t *transfer) isCut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cut
}

// recover has the destination listen anew, and the source connect to it.
func (t *transfer) recover(ctx context.Context) error {
	peer, ok := t.peer.(*Port)
	if !ok {
		return fmt.Errorf("the link of the post-copy of %s is cut: %w", t.m.VM, hypervisor.ErrNotHere)
	}
	if err := t.reconnect(ctx, peer); err != nil {
		return fmt.Errorf("recover the post-copy of %s, whose link was cut: %w", t.m.VM, err)
	}
	return nil
}

func (t *transfer) reconnect(ctx context.Context, peer *Port) error {
	info, err := peer.client.Host(ctx)
	if err != nil {
		return err
	}
	ctx = peer.as(ctx, t.m)
	address, err := t.listenAgain(ctx, peer, info)
	if err != nil {
		return err
	}
	if err := t.p.do(ctx, t.m.VM, "migrate", map[string]any{"uri": address, "resume": true}, nil); err != nil {
		return err
	}
	return t.p.await(ctx, func() (bool, error) {
		_, err := t.advance(ctx)
		return !t.isCut(), err
	})
}

// listenAgain has the destination listen on a port of our choice: its main loop may wait for a page itself, and then tells
// nothing. It notices the cut later than the source perhaps, and refuses until then.
func (t *transfer) listenAgain(ctx context.Context, peer *Port, info client.Host) (address string, err error) {
	port := info.LastPort
	err = peer.await(ctx, func() (bool, error) {
		address = "tcp:" + net.JoinHostPort(strings.Trim(info.Address, "[]"), strconv.Itoa(port))
		err := peer.do(ctx, t.m.VM, "migrate-recover", map[string]any{"uri": address}, nil)
		var refused *Error
		if !errors.As(err, &refused) {
			return err == nil, err
		}
		if port--; port < info.FirstPort {
			port = info.LastPort
		}
		return false, nil
	})
	return address, err
}
