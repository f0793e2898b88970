package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// move is one that is known. Its state is changed by its goroutine alone, and under Runner.mu; others read it under that.
type move struct {
	r  *Runner
	id string

	state
	status    Status
	records   []journal.Record // what a rewrite of the journal keeps of it
	running   bool             // has a goroutine, or is about to get one
	perhaps   error            // why this manager gives no more orders: nobody knows whether it is committed
	cancel    context.CancelCauseFunc
	cancelled bool   // before there was a cancel
	bandwidth uint64 // what a scheduler grants

	// Of its goroutine alone: they do not outlast it.
	fresh    bool // begun by this manager, which knows all that was done
	transfer hypervisor.Transfer
	begunAt  time.Time // the transfer
	stopped  time.Time // when the source did
	untold   bool      // committed, and nobody has told the destination to run
}

// take brings a record in. It is called with mu held.
func (m *move) take(rec journal.Record) error {
	if rec.Kind == journal.Past {
		if err := json.Unmarshal(rec.Plan, &m.status); err != nil {
			return fmt.Errorf("read what is kept of move %s: %w", rec.Move, err)
		}
		m.ended = m.status.Outcome
		return nil
	}
	if err := m.apply(rec); err != nil {
		return err
	}
	m.records = append(m.records, rec)
	s := &m.status
	s.ID, s.VM, s.From, s.To, s.Steps, s.Planned = m.id, m.plan.VM, m.plan.From, m.plan.To, len(m.plan.Steps), m.planned
	s.Phase, s.Committed, s.Outcome, s.Ended = m.phase, m.committed, m.ended, m.endedAt
	switch rec.Kind {
	case journal.StepBegun, journal.StepUndone:
		s.Step = rec.Step + 1
	case journal.Undoing:
		s.Problem = rec.Text
	case journal.Ended:
		s.Problem, s.Owed, s.Doing, s.ETA = rec.Text, rec.Phase == owed, "", 0
		m.records = nil
	}
	return nil
}

// write journals a record, then takes it in.
func (m *move) write(rec journal.Record) error {
	rec.Move = m.id
	r := m.r
	r.writing.Lock()
	defer r.writing.Unlock()
	rec, err := r.journal.Append(rec)
	if err != nil {
		return err
	}
	r.mu.Lock()
	err = m.take(rec)
	r.mu.Unlock()
	r.opts.Changed()
	if r.journal.Large() {
		r.rewrite()
	}
	return err
}

// rewrite keeps what is needed: moves under way in full, of those that have ended the last ones in short. It is called
// with writing held.
func (r *Runner) rewrite() {
	r.mu.Lock()
	ended := 0
	for _, m := range r.moves {
		if m.ended != "" {
			ended++
		}
	}
	records := []journal.Record{{Kind: journal.Epoch, Epoch: r.epoch, At: r.opts.Now().UTC()}}
	kept := make([]*move, 0, len(r.moves))
	for _, m := range r.moves {
		if m.ended == "" {
			records = append(records, m.records...)
		} else if ended--; ended >= keptMoves {
			continue
		} else if text, err := json.Marshal(m.status); err == nil { // plain data
			records = append(records, journal.Record{Kind: journal.Past, Move: m.id, At: m.status.Ended, Plan: text})
		}
		kept = append(kept, m)
	}
	r.moves = kept
	r.mu.Unlock()
	if err := r.journal.Rewrite(records); err != nil {
		r.opts.Log.Error("the journal of moves stays as long as it is", "err", err)
	}
}

// reach journals that a phase is about to be entered.
func (m *move) reach(p Phase) error {
	return m.write(journal.Record{Kind: journal.Reached, Phase: string(p)})
}

// show changes the status.
func (m *move) show(change func(*Status)) {
	m.r.mu.Lock()
	change(&m.status)
	m.r.mu.Unlock()
	m.r.opts.Changed()
}

// end closes the move.
func (m *move) end(o Outcome, text string, isOwed bool) error {
	rec := journal.Record{Kind: journal.Ended, Outcome: string(o), Text: text}
	if isOwed {
		rec.Phase = owed
	}
	m.r.opts.Log.Info("a move has ended", "move", m.id, "vm", m.plan.VM, "outcome", o, "why", text)
	return m.write(rec)
}

func (m *move) source() (hypervisor.Port, error) { return m.r.opts.Ports(m.plan.From) }
func (m *move) target() (hypervisor.Port, error) { return m.r.opts.Ports(m.plan.To) }

// order is what hosts are told of the move.
func (m *move) order() hypervisor.Move {
	return hypervisor.Move{ID: m.id, Epoch: m.r.epoch, VM: m.plan.VM, Shape: m.plan.During, From: m.plan.From, To: m.plan.To}
}

// guest asks the agent of the VM on a host.
func (m *move) guest(p hypervisor.Port, ask func(agent.Client) error) error {
	g := m.r.opts.Guests(p, m.plan.VM)
	if g == nil {
		return agent.ErrNoAgent
	}
	return errors.Join(ask(g), g.Close())
}

// call is one order to a host, which is reached anew.
func (m *move) call(ctx context.Context, limit time.Duration, port func() (hypervisor.Port, error), order func(context.Context, hypervisor.Port) error) error {
	p, err := port()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return order(ctx, p)
}

// again repeats what must be done until it is, for as long as the patience lasts. What more tries cannot change ends it.
func (m *move) again(ctx context.Context, doing string, patience time.Duration, try func(context.Context) error) error {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	m.show(func(s *Status) { s.Doing = doing })
	until := m.r.opts.Now().Add(patience)
	for pause := shortest; ; pause = min(2*pause, longest) {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, final(err), !m.r.opts.Now().Before(until):
			return fmt.Errorf("%s: %w", doing, err)
		}
		m.show(func(s *Status) { s.Doing = fmt.Sprintf("%s (again: %v)", doing, err) })
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

// final errors are not changed by trying again.
func final(err error) bool {
	return errors.Is(err, hypervisor.ErrFenced) || errors.Is(err, hypervisor.ErrNoSuchVM) || errors.Is(err, hypervisor.ErrNotHere) ||
		errors.Is(err, journal.ErrUncertain) || errors.Is(err, errNoVolumes)
}
