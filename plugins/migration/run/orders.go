package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// Start begins a move. It returns when the plan is journalled.
func (r *Runner) Start(p plan.Plan) error {
	if err := p.Validate(); err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("start move %s: %w", p.ID, err)
	}
	m := &move{r: r, id: p.ID, fresh: true}
	m.status.VM = p.VM
	if err := r.enlist(m); err != nil {
		return fmt.Errorf("start move %s of %s: %w", p.ID, p.VM, err)
	}
	err = m.write(journal.Record{Kind: journal.Planned, Plan: text})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.moves = slices.DeleteFunc(r.moves, func(o *move) bool { return o == m })
		return fmt.Errorf("start move %s of %s: %w", p.ID, p.VM, err)
	}
	m.running = false
	r.launch(m)
	return nil
}

// enlist takes a move in unless something speaks against it.
func (r *Runner) enlist(m *move) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	under := 0
	for _, o := range r.moves {
		switch {
		case o.id == m.id:
			return errors.New("there is a move of this ID")
		case o.status.Outcome != "":
			continue
		case o.status.VM == m.status.VM:
			return fmt.Errorf("%w, by %s", ErrMoving, o.id)
		}
		under++
	}
	if under >= r.opts.Moves {
		return ErrTooMany
	}
	m.running = true // nobody else may start it
	r.moves = append(r.moves, m)
	return nil
}

// find is called with mu held.
func (r *Runner) find(id string) (*move, error) {
	i := slices.IndexFunc(r.moves, func(m *move) bool { return m.id == id })
	if i < 0 {
		return nil, fmt.Errorf("%s: %w", id, ErrNoSuchMove)
	}
	return r.moves[i], nil
}

// Cancel undoes a move. It returns before that is done.
func (r *Runner) Cancel(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(id)
	switch {
	case err != nil:
		return fmt.Errorf("cancel %w", err)
	case m.status.Outcome != "":
		return fmt.Errorf("cancel %s: it has ended: %s", id, m.status.Outcome)
	case m.status.Committed:
		return fmt.Errorf("cancel %s: %w", id, ErrCommitted)
	case m.perhaps != nil:
		return fmt.Errorf("cancel %s: %w", id, m.perhaps)
	case !m.running:
		r.launch(m) // what is held before its commit can only be undone
	case m.cancel != nil:
		m.cancel(errCancelled)
	default:
		m.cancelled = true // its plan is being journalled
	}
	return nil
}

// Retry goes on with a move that is held.
func (r *Runner) Retry(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(id)
	switch {
	case err != nil:
		return fmt.Errorf("retry %w", err)
	case !m.status.Held || m.running:
		return fmt.Errorf("retry %s: it does not wait for an operator", id)
	case m.perhaps != nil:
		return fmt.Errorf("retry %s: %w", id, m.perhaps)
	}
	r.launch(m)
	return nil
}

// Accept takes a VM at the target as it is: the move is held because it could not be verified, and the operator has.
// The source is ended.
func (r *Runner) Accept(id string) error {
	r.mu.Lock()
	m, err := r.find(id)
	if err == nil && (!m.status.Held || m.running || m.phase != Verify) {
		err = fmt.Errorf("%s: it does not wait to be verified", id)
	}
	if err == nil {
		m.running = true
	}
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("accept %w", err)
	}
	err = m.write(journal.Record{Kind: journal.Reached, Phase: string(End), Text: "accepted by the operator"})
	r.mu.Lock()
	defer r.mu.Unlock()
	m.running = false
	if err != nil {
		return fmt.Errorf("accept %s: %w", id, err)
	}
	r.launch(m)
	return nil
}

// Limit changes how many bytes a second a move may use; 0 is what its goal allows, which is never exceeded.
func (r *Runner) Limit(id string, bytes uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(id)
	if err != nil {
		return fmt.Errorf("limit %w", err)
	}
	m.bandwidth = bytes
	return nil
}

// Moves returns all that are known, in the order in which they were planned.
func (r *Runner) Moves() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Status, len(r.moves))
	for i, m := range r.moves {
		list[i] = m.status
	}
	return list
}

// Move returns one.
func (r *Runner) Move(id string) (Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, err := r.find(id)
	if err != nil {
		return Status{}, false
	}
	return m.status, true
}
