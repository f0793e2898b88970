package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// undo leads back to the VM running at the source as before. It leaves m.committed set when it found that the only
// copy of the VM is at the target.
func (m *move) undo(ctx context.Context, why error) error {
	if m.undoing == "" {
		m.r.opts.Log.Warn("a move is undone", "move", m.id, "vm", m.plan.VM, "phase", m.phase, "why", why)
		if err := m.write(journal.Record{Kind: journal.Undoing, Text: why.Error()}); err != nil {
			// It can be undone all the same: that is what a manager does who finds neither this nor a commit.
			m.r.opts.Log.Error("an undo is not journalled", "move", m.id, "err", err)
			m.undoing = why.Error()
		}
	}
	isOwed := false
	if m.preparing {
		if saved, err := m.salvage(ctx); saved || err != nil {
			return err
		}
		var err error
		if isOwed, err = m.callBack(ctx); err != nil {
			if errors.Is(err, hypervisor.ErrNoSuchVM) {
				return m.end(Lost, fmt.Sprintf("%s; then %s was no longer on %s: it ended by itself", m.undoing, m.plan.VM, m.plan.From), isOwed)
			}
			return err
		}
	}
	for i := min(m.begun, m.undone-1); i >= 0; i-- {
		if err := m.back(ctx, m.source, i); err != nil {
			if errors.Is(err, hypervisor.ErrNoSuchVM) {
				return m.end(Lost, m.undoing+"; "+err.Error(), isOwed)
			}
			return fmt.Errorf("%w; the VM runs on %s, not in the shape it had", err, m.plan.From)
		}
		if err := m.write(journal.Record{Kind: journal.StepUndone, Step: i}); err != nil {
			m.r.opts.Log.Error("a step taken back is not journalled", "move", m.id, "err", err)
		}
	}
	text := m.undoing
	switch err := m.restored(ctx); {
	case errors.Is(err, hypervisor.ErrNoSuchVM):
		return m.end(Lost, fmt.Sprintf("%s; %s is no longer on %s: it ended by itself", text, m.plan.VM, m.plan.From), isOwed)
	case err != nil:
		text += "; " + err.Error()
	}
	if isOwed {
		text += fmt.Sprintf("; %s did not answer: the destination that may wait there is discarded by the next move", m.plan.To)
	}
	return m.end(Undone, text, isOwed)
}

// salvage commits a move whose source is gone and whose destination has everything: it is the only copy.
func (m *move) salvage(ctx context.Context) (bool, error) {
	state, err := m.sourceState(ctx)
	if err != nil || state != hypervisor.Absent {
		return false, nil
	}
	err = m.call(ctx, m.r.opts.Policy.Call, m.target, func(ctx context.Context, p hypervisor.Port) (err error) {
		state, err = p.Status(ctx, m.plan.VM)
		return err
	})
	if err != nil || state != hypervisor.Paused {
		return false, nil
	}
	m.r.opts.Log.Warn("the source is gone and the destination is complete: the move goes on", "move", m.id, "vm", m.plan.VM)
	err = m.again(ctx, "hand the volumes to "+m.plan.To, m.r.opts.Policy.Patience, func(ctx context.Context) error {
		return m.handOver(ctx, m.plan.From, m.plan.To)
	})
	if err == nil {
		err = m.write(journal.Record{Kind: journal.Committed})
	}
	return err == nil, err
}

// callBack lets the source run again. isOwed tells that the destination could not be discarded: it never ran and nobody
// will let it, so the VM need not wait for that.
func (m *move) callBack(ctx context.Context) (isOwed bool, err error) {
	policy := m.r.opts.Policy
	back := func() error {
		if m.r.opts.mutant == mutantKeepVolumes {
			return nil
		}
		return m.again(ctx, "hand the volumes back to "+m.plan.From, policy.Patience, func(ctx context.Context) error {
			return m.handOver(ctx, m.plan.To, m.plan.From)
		})
	}
	if m.r.opts.mutant != mutantResumeFirst {
		// Cancelled, the source runs on by itself: it must be able to write by then.
		if err := back(); err != nil {
			return false, err
		}
	}
	if m.transfer != nil {
		ctx, cancel := context.WithTimeout(ctx, policy.Call)
		if err := m.transfer.Cancel(ctx); err != nil {
			m.r.opts.Log.Info("a transfer could not be cancelled; the source is asked next", "move", m.id, "err", err)
		}
		cancel()
		m.transfer = nil
	}
	// The target first: from here on it takes no order of an older manager to let the VM run.
	discard := func(ctx context.Context) error {
		return m.call(ctx, policy.Call, m.target, func(ctx context.Context, p hypervisor.Port) error {
			return p.Finish(ctx, m.order(), false)
		})
	}
	if err := m.again(ctx, "discard the destination on "+m.plan.To, policy.Call, discard); err != nil {
		if errors.Is(err, hypervisor.ErrFenced) || ctx.Err() != nil {
			return false, err
		}
		isOwed = true
	}
	err = m.again(ctx, "let the VM run on "+m.plan.From, policy.Patience, func(ctx context.Context) error { return m.confirm(ctx, false) })
	if err == nil && m.r.opts.mutant == mutantResumeFirst {
		err = back()
	}
	return isOwed, err
}

// restored fails unless the VM is as it was before the move.
func (m *move) restored(ctx context.Context) error {
	return m.call(ctx, m.r.opts.Policy.Call, m.source, func(ctx context.Context, p hypervisor.Port) error {
		shape, err := p.Describe(ctx, m.plan.VM)
		if err == nil && !plan.Reached(shape, m.plan.Before) {
			err = fmt.Errorf("%s has another shape than before: look at it on %s", m.plan.VM, m.plan.From)
		}
		return err
	})
}
