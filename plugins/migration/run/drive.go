package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// owed marks a move that ended with a destination which could not be discarded.
const owed = "owed"

// drive leads the move to its end, as far as that is possible now; what it returns is for an operator. ctx ends when the
// move is cancelled.
func (m *move) drive(ctx context.Context) error {
	err := m.lead(ctx)
	if m.r.ctx.Err() != nil || err == nil { // the next manager goes on, or there is nothing more to do
		return nil
	}
	if errors.Is(err, hypervisor.ErrFenced) {
		err = fmt.Errorf("%w; look at %s on %s and %s there, or retry here to take it back", err, m.plan.VM, m.plan.From, m.plan.To)
	}
	m.r.opts.Log.Error("a move waits for an operator", "move", m.id, "vm", m.plan.VM, "phase", m.phase, "err", err)
	return err
}

func (m *move) lead(ctx context.Context) error {
	life := m.r.ctx // nobody can cancel what must be done
	if !m.committed {
		err := errors.New("the manager was restarted")
		switch {
		case m.fresh:
			m.fresh = false // a retry of it is an undo
			err = m.before(ctx)
		case m.left != nil && m.undoing == "":
			err = m.leave(life)
		}
		if cause := context.Cause(ctx); err != nil && !errors.Is(err, errPerhaps) && errors.Is(cause, errCancelled) {
			err = cause
		}
		switch {
		case life.Err() != nil:
			return nil
		case err == nil:
		case errors.Is(err, errPerhaps):
			return err
		case !m.committed && errors.Is(err, hypervisor.ErrFenced) && m.r.opts.mutant != mutantDeafToFence:
			return err
		case !m.committed:
			if err := m.undo(life, err); err != nil || !m.committed {
				return err
			}
		}
	}
	if !m.committed {
		return nil
	}
	return m.after(life)
}
