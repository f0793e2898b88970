package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// errOther means that another guest answers at the target.
var errOther = errors.New("another guest answers there")

// after is everything from the commit on: there is only forward.
func (m *move) after(ctx context.Context) error {
	switch m.phase {
	case Commit, Verify:
		if m.untold && m.left == nil {
			m.untold = false
			if err := m.letRun(ctx); errors.Is(err, hypervisor.ErrNoSuchVM) {
				// Its host says that it is gone, and it was never told to run: it has had no first instruction.
				return m.undo(ctx, fmt.Errorf("the destination was gone before it ran: %w", err))
			}
		}
		if err := m.again(ctx, "let the VM run on "+m.plan.To, m.r.opts.Policy.Patience, m.letRun); err != nil {
			return fmt.Errorf("%w; the VM stands still on %s until this succeeds", err, m.plan.To)
		}
		if !m.stopped.IsZero() {
			gap := m.r.opts.Now().Sub(m.stopped)
			m.show(func(s *Status) { s.Gap = gap })
		}
		if m.left != nil {
			if err := m.arrive(ctx); err != nil {
				return err
			}
		}
		if m.phase != Verify {
			if err := m.reach(Verify); err != nil {
				return err
			}
		}
		if err := m.again(ctx, "verify the VM on "+m.plan.To, m.r.opts.Policy.Verify, m.verify); err != nil {
			if m.r.opts.mutant == mutantResumeUnverified {
				return errors.Join(err, m.confirm(ctx, false))
			}
			return fmt.Errorf("%w; look at it there, then retry, or accept it as it is: its copy on %s waits to be ended", err, m.plan.From)
		}
		if err := m.reach(End); err != nil {
			return err
		}
	}
	// A source that does not answer must not keep the VM from becoming what it shall be.
	ended := m.again(ctx, "end the VM on "+m.plan.From, m.r.opts.Policy.Call, func(ctx context.Context) error { return m.confirm(ctx, true) })
	if errors.Is(ended, hypervisor.ErrFenced) || ctx.Err() != nil {
		return ended
	}
	problem, err := m.grow(ctx)
	if err != nil {
		return err
	}
	outcome, text := Moved, ""
	switch {
	case errors.Is(problem, hypervisor.ErrNoSuchVM):
		outcome, text = Lost, fmt.Sprintf("%s ran on %s and then ended there by itself: %v", m.plan.VM, m.plan.To, problem)
	case problem != nil:
		outcome, text = Partly, problem.Error()
	}
	if ended != nil {
		if err := m.again(ctx, "end the VM on "+m.plan.From, m.r.opts.Policy.Patience, func(ctx context.Context) error { return m.confirm(ctx, true) }); err != nil {
			return fmt.Errorf("%w; the VM runs on %s, and its copy on %s must be ended", err, m.plan.To, m.plan.From)
		}
	}
	return m.end(outcome, text, false)
}

// letRun gives the destination its next instruction; it may be its first.
func (m *move) letRun(ctx context.Context) error {
	return m.call(ctx, m.r.opts.Policy.Call, m.target, func(ctx context.Context, p hypervisor.Port) error {
		return p.Finish(ctx, m.order(), true)
	})
}

// arrive waits until a post-copy has sent everything.
func (m *move) arrive(ctx context.Context) error {
	err := m.again(ctx, "wait for the rest of the memory", m.r.opts.Policy.Patience, func(ctx context.Context) error {
		if err := m.attach(ctx); err != nil {
			// The source that has sent everything has no transfer to be found again.
			if state, failed := m.sourceState(ctx); failed == nil && (state == hypervisor.Moved || state == hypervisor.Absent) {
				return nil
			}
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, m.r.opts.Policy.Transfer)
		defer cancel()
		err := m.transfer.Complete(ctx)
		if err != nil {
			m.transfer = nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w; the guest stands still where it needs memory that is only on %s: mend the link and retry", err, m.plan.From)
	}
	if !m.begunAt.IsZero() {
		took := m.r.opts.Now().Sub(m.begunAt)
		m.show(func(s *Status) { s.Took = took })
	}
	return nil
}

func (m *move) sourceState(ctx context.Context) (s hypervisor.State, err error) {
	err = m.call(ctx, m.r.opts.Policy.Call, m.source, func(ctx context.Context, p hypervisor.Port) (err error) {
		s, err = p.Status(ctx, m.plan.VM)
		return err
	})
	return s, err
}

// verify holds the VM at the target against the one that was to be moved.
func (m *move) verify(ctx context.Context) error {
	return m.call(ctx, m.r.opts.Policy.Call, m.target, func(ctx context.Context, p hypervisor.Port) error {
		state, err := p.Status(ctx, m.plan.VM)
		switch {
		case err != nil:
			return err
		case state == hypervisor.Paused || state == hypervisor.Failed:
			// A disk that was not there yet has stopped it (werror=stop); it asks again when it goes on.
			if err := p.Finish(ctx, m.order(), true); err != nil {
				return err
			}
			return fmt.Errorf("it was %s and is let run again", state)
		case state != hypervisor.Running:
			return fmt.Errorf("it is %s", state)
		case m.boot == "":
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, m.r.opts.Policy.Agent)
		defer cancel()
		return m.guest(p, func(g agent.Client) error {
			boot, err := g.Ping(ctx)
			if err == nil && boot != m.boot {
				err = fmt.Errorf("%w: its boot ID is %s and was %s", errOther, boot, m.boot)
			}
			return err
		})
	})
}

// confirm ends the VM at the source, or lets it run there.
func (m *move) confirm(ctx context.Context, moved bool) error {
	return m.call(ctx, m.r.opts.Policy.Call, m.source, func(ctx context.Context, p hypervisor.Port) error {
		err := p.Confirm(ctx, m.order(), moved)
		if moved && errors.Is(err, hypervisor.ErrNoSuchVM) {
			return nil
		}
		return err
	})
}

// grow does the steps behind the move. What cannot be done is taken back and told: the VM runs, and that is what counts.
func (m *move) grow(ctx context.Context) (problem, err error) {
	moving := m.plan.Moving()
	if moving == len(m.plan.Steps)-1 {
		return nil, nil
	}
	if m.phase != PostSteps {
		if err := m.reach(PostSteps); err != nil {
			return nil, err
		}
	}
	for i := max(moving, m.done) + 1; i < len(m.plan.Steps); i++ {
		p, err := m.target()
		if err == nil {
			err = m.step(ctx, p, i)
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, journal.ErrUncertain):
			return nil, err
		case err == nil:
			continue
		}
		back := m.back(ctx, m.target, i)
		if ctx.Err() != nil {
			return nil, back
		}
		return fmt.Errorf("step %d of %d: %w", i+1, len(m.plan.Steps), errors.Join(err, back)), nil
	}
	return nil, nil
}

// back takes one step back.
func (m *move) back(ctx context.Context, port func() (hypervisor.Port, error), i int) error {
	s := m.plan.Steps[i]
	switch s.Kind {
	case plan.Augment, plan.HookBefore, plan.HookAfter, plan.Move:
		return nil // what a guest was enabled to do does it no harm, and nobody can unrun a script
	}
	return m.again(ctx, "take back "+string(s.Kind)+" "+s.Device, m.r.opts.Policy.Call, func(ctx context.Context) error {
		p, err := port()
		if err != nil {
			return err
		}
		return m.change(ctx, p, plan.Invert(s), "")
	})
}
