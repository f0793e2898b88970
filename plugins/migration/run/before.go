package run

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
	"github.com/ratchetos/ratchet/plugins/migration/step"
)

// before is everything up to the commit. After an error the move is undone.
func (m *move) before(ctx context.Context) error {
	source, err := m.source()
	if err != nil {
		return err
	}
	target, err := m.target()
	if err != nil {
		return err
	}
	how, err := m.admit(ctx, source, target)
	if err != nil {
		return err
	}
	moving := m.plan.Moving()
	if moving > 0 {
		if err := m.reach(PreSteps); err != nil {
			return err
		}
	}
	for i := range moving {
		if err := m.step(ctx, source, i); err != nil {
			return err
		}
	}
	if err := m.reach(Prepared); err != nil {
		return err
	}
	arrival, err := m.prepare(ctx, source, target)
	if err != nil {
		return err
	}
	if err := m.reach(Transfer); err != nil {
		return err
	}
	left, err := m.send(ctx, source, arrival, how)
	if err != nil {
		return err
	}
	return m.switchover(ctx, target, arrival, how, left)
}

// step does one step of the plan. That it may have been done is journalled before.
func (m *move) step(ctx context.Context, p hypervisor.Port, i int) error {
	s := m.plan.Steps[i]
	if err := m.write(journal.Record{Kind: journal.StepBegun, Step: i}); err != nil {
		return err
	}
	if err := m.change(ctx, p, s, fmt.Sprintf("%s/%d", m.id, i)); err != nil {
		return err
	}
	return m.write(journal.Record{Kind: journal.StepDone, Step: i})
}

// change leads the VM to the state after a step.
func (m *move) change(ctx context.Context, p hypervisor.Port, s plan.Step, order string) error {
	m.show(func(st *Status) { st.Doing = string(s.Kind) + " " + s.Device })
	return m.guest(p, func(g agent.Client) error {
		return step.Do(ctx, step.VM{Name: m.plan.VM, Port: p, Guest: g, Order: order}, s)
	})
}

// prepare starts the destination and holds it against what will cross.
func (m *move) prepare(ctx context.Context, source, target hypervisor.Port) (a hypervisor.Arrival, err error) {
	whole, limit := ctx, m.r.opts.Policy.Prepare
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m.show(func(s *Status) { s.Doing = "start the destination" })
	now, err := source.Describe(ctx, m.plan.VM)
	if err != nil {
		return a, late(whole, m.plan.From, "describe the VM", limit, err)
	}
	now.CPU = m.plan.During.CPU // the one thing that changes with the move itself
	if err := differs("source", plan.Compare(m.plan.During, now)); err != nil {
		return a, err
	}
	ticket, err := source.Begin(ctx, m.order())
	if err != nil {
		return a, late(whole, m.plan.From, "begin the move", limit, err)
	}
	if a, err = target.Prepare(ctx, m.order(), ticket); err != nil {
		return a, late(whole, m.plan.To, "start the destination", limit, err)
	}
	destination, err := target.Describe(ctx, m.plan.VM)
	if errors.Is(err, hypervisor.ErrNotHere) {
		return a, nil // this hypervisor compares by itself
	}
	if err != nil {
		return a, late(whole, m.plan.To, "describe the destination", limit, err)
	}
	return a, differs("destination", plan.Compare(m.plan.During, destination))
}

func differs(side string, refusals []plan.Refusal) error {
	var all []error
	for _, r := range refusals {
		all = append(all, errors.New(r.String()))
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("the %s is not what was planned: %w", side, err)
	}
	return nil
}
