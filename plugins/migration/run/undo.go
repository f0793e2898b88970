package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// hasty is how long a source is asked to cancel by itself: discarding the destination has the same effect.
const hasty = 5 * time.Second

// glance is for how long a destination is looked for whose host does not answer, before it is discarded.
const glance = time.Second

// recalled marks the record of an undo behind which the source may run.
const recalled = "recalled"

// undo leads back to the VM running at the source as before. It leaves m.committed set when it found that the only
// copy of the VM is at the target.
func (m *move) undo(ctx context.Context, why error) error {
	isOwed, err := m.retreat(ctx, why)
	switch {
	case m.committed:
		return err
	case errors.Is(err, hypervisor.ErrNoSuchVM):
		return m.end(Lost, fmt.Sprintf("%s; then it ended by itself: %v", m.undoing, err), isOwed)
	case err != nil:
		return err
	}
	text := m.undoing
	if isOwed {
		text += fmt.Sprintf("; %s did not answer: the destination that may wait there is discarded by the next move", m.plan.To)
	}
	return m.end(Undone, text, isOwed)
}

// retreat is what an undo does.
func (m *move) retreat(ctx context.Context, why error) (isOwed bool, err error) {
	if m.undoing == "" {
		m.r.opts.Log.Warn("a move is undone", "move", m.id, "vm", m.plan.VM, "phase", m.phase, "why", why)
		if err := m.write(journal.Record{Kind: journal.Undoing, Phase: string(Undo), Text: why.Error()}); err != nil {
			// It can be undone all the same: that is what a manager does who finds neither this nor a commit.
			m.r.opts.Log.Error("an undo is not journalled", "move", m.id, "err", err)
			m.undoing, m.committed = why.Error(), false
		}
	}
	if m.preparing {
		if isOwed, err = m.callBack(ctx); err != nil || m.committed {
			return isOwed, err
		}
	}
	for i := min(m.begun, m.undone-1); i >= 0; i-- {
		if err := m.back(ctx, m.source, i); err != nil {
			return isOwed, fmt.Errorf("%w; the VM runs on %s, not in the shape it had", err, m.plan.From)
		}
		if err := m.write(journal.Record{Kind: journal.StepUndone, Step: i}); err != nil {
			m.r.opts.Log.Error("a step taken back is not journalled", "move", m.id, "err", err)
		}
	}
	return isOwed, m.again(ctx, "look at the VM on "+m.plan.From, m.r.opts.Policy.Call, m.restored)
}

// salvage commits a move whose source is gone and whose destination has everything: it is the only copy. Otherwise it
// leaves the move as it is, and says whether the destination has everything. The target is asked first: a source whose
// stream stalls may answer only once the destination is discarded, which harms nobody as long as that is not whole. Once the
// source may have run, nothing is committed any more.
func (m *move) salvage(ctx context.Context) (whole bool, err error) {
	policy := m.r.opts.Policy
	var state hypervisor.State
	look := func(port func() (hypervisor.Port, error)) func(context.Context) error {
		return func(ctx context.Context) error {
			return m.call(ctx, policy.Call, port, func(ctx context.Context, p hypervisor.Port) (err error) {
				state, err = p.Status(ctx, m.plan.VM)
				return err
			})
		}
	}
	// One answer that was lost must not cost the only copy.
	err = m.again(ctx, "look at the destination on "+m.plan.To, glance, look(m.target))
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case m.recalled && err != nil:
		return !errors.Is(err, hypervisor.ErrFenced), nil // it may have
	case err != nil || state != hypervisor.Paused:
		return false, nil // what cannot be asked cannot be discarded either
	case m.recalled:
		return true, nil
	}
	if err := m.again(ctx, "look for the VM on "+m.plan.From, policy.Patience, look(m.source)); err != nil || state != hypervisor.Absent {
		return true, err
	}
	if err := m.stoodStill(ctx); err != nil {
		return true, err
	}
	m.r.opts.Log.Warn("the source is gone and the destination is complete: the move goes on", "move", m.id, "vm", m.plan.VM)
	if err := m.again(ctx, "hand the volumes to "+m.plan.To, policy.Patience, func(ctx context.Context) error {
		return m.handOver(ctx, m.plan.From, m.plan.To)
	}); err != nil {
		return true, err
	}
	return true, m.recordCommit()
}

// stoodStill fails unless the source, which is gone, is known not to have run since the switch: a hypervisor that has not heard
// the destination's last word lets it run on by itself, and so does a cancel whose answer was lost. A host that does not answer is
// asked again when the move is retried; one that says no has said so for good.
func (m *move) stoodStill(ctx context.Context) error {
	limit, still := m.r.opts.Policy.Call, false
	err := m.again(ctx, "ask "+m.plan.From+" whether the VM stood still", limit, func(ctx context.Context) error {
		return m.call(ctx, limit, m.source, func(ctx context.Context, p hypervisor.Port) (err error) {
			if w, ok := p.(hypervisor.Witness); ok {
				still, err = w.StoodStill(ctx, m.order())
			}
			return err
		})
	})
	switch {
	case errors.Is(err, hypervisor.ErrFenced) || ctx.Err() != nil:
		return err
	case err != nil:
		return errors.Join(m.outlived(hypervisor.ErrNoSuchVM), err)
	case !still:
		return errors.Join(m.outlived(hypervisor.ErrNoSuchVM), m.recall())
	}
	return nil
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
		ctx, cancel := context.WithTimeout(ctx, min(policy.Call, hasty))
		err := m.transfer.Cancel(ctx)
		cancel()
		if errors.Is(err, hypervisor.ErrFenced) && m.r.opts.mutant != mutantDeafToFence {
			return false, err
		}
		if err != nil {
			m.r.opts.Log.Info("a transfer could not be cancelled; the source is asked next", "move", m.id, "err", err)
		} else if err := m.recall(); err != nil { // by now it runs on by itself
			m.r.opts.Log.Error("that a source runs again is not journalled", "move", m.id, "err", err)
		}
		m.transfer = nil
	}
	// Before anything is discarded: is there another copy? The target is asked under this manager's epoch, and from
	// here on takes no order of an older one to let the VM run.
	whole, err := m.salvage(ctx)
	if err != nil || m.committed {
		return false, err
	}
	resume := func() error {
		err := m.again(ctx, "let the VM run on "+m.plan.From, policy.Patience, func(ctx context.Context) error { return m.confirm(ctx, false) })
		if err == nil && m.r.opts.mutant == mutantResumeFirst {
			err = back()
		}
		return err
	}
	if whole {
		// A destination that has everything is kept until the source runs, if the journal can tell that it may.
		err := m.recall()
		if err == nil {
			if err := resume(); err != nil {
				return false, m.outlived(err)
			}
			return m.discard(ctx)
		}
		m.r.opts.Log.Error("that a source runs again is not journalled; its destination is discarded first", "move", m.id, "err", err)
	}
	if isOwed, err = m.discard(ctx); err != nil {
		return isOwed, err
	}
	if isOwed {
		if err := m.recall(); err != nil {
			return isOwed, fmt.Errorf("let the VM run on %s: %w", m.plan.From, err)
		}
		// If the source is gone, nobody can say now whether the destination has everything: the next move must not discard it.
		return isOwed, m.outlived(resume())
	}
	return isOwed, resume()
}

// recall journals that the source may run from now on. What the destination has is then of the past and is never let run,
// whatever becomes of the source.
func (m *move) recall() error {
	if m.recalled {
		return nil
	}
	return m.write(journal.Record{Kind: journal.Undoing, Phase: recalled, Text: m.undoing})
}

// outlived tells an operator of a source that has ended, and perhaps run before: the destination is the only copy then, which
// must not be discarded, or of the past, and must not run.
func (m *move) outlived(err error) error {
	if !errors.Is(err, hypervisor.ErrNoSuchVM) {
		return err
	}
	vm, from, to := m.plan.VM, m.plan.From, m.plan.To
	return fmt.Errorf("%s is gone from %s and may have run on there after its memory was sent: its copy on %s is not let run; start %[1]s on %[2]s again, or end the copy on %[3]s (`ratchet vmhost --config FILE stop %[1]s --force --move %[4]s`, or `virsh destroy %[1]s`), then retry",
		vm, from, to, m.id)
}

// discard ends the destination, which never ran. isOwed tells that its host did not answer.
func (m *move) discard(ctx context.Context) (isOwed bool, err error) {
	err = m.again(ctx, "discard the destination on "+m.plan.To, m.r.opts.Policy.Call, func(ctx context.Context) error {
		return m.call(ctx, m.r.opts.Policy.Call, m.target, func(ctx context.Context, p hypervisor.Port) error {
			return p.Finish(ctx, m.order(), false)
		})
	})
	if errors.Is(err, hypervisor.ErrFenced) || ctx.Err() != nil {
		return false, err
	}
	return err != nil, nil
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
