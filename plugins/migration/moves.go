package migration

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
	"github.com/ratchetos/ratchet/plugins/migration/queue"
	"github.com/ratchetos/ratchet/plugins/migration/run"
)

// States of a move beside the phases and outcomes of package run.
const (
	stateWaiting   = "waiting"   // for its turn
	stateScheduled = "scheduled" // for its slot
	stateHeld      = api.StateHeld
	stateNotBegun  = "not begun" // and never will
)

// plan answers api.MethodPlan.
func (m *mover) plan(ctx context.Context, req api.MoveRequest) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, planLimit)
	defer cancel()
	if req.Template != "" {
		return m.planTemplate(ctx, req)
	}
	p, err := m.planned(ctx, newID(), req)
	if err != nil {
		return nil, err
	}
	return api.PlanReply{Plans: []api.Planned{p}}, nil
}

// planned makes the plan of one VM with its text.
func (m *mover) planned(ctx context.Context, id string, req api.MoveRequest) (api.Planned, error) {
	in, err := m.input(ctx, id, order{MoveRequest: req})
	if err != nil {
		return api.Planned{}, err
	}
	out := api.Planned{VM: req.VM, From: in.Source.Name, To: req.To}
	p, refusals := plan.Make(in)
	if len(refusals) > 0 {
		out.Refusals, out.Text = refusals, plan.RefusalText(out.VM, out.From, out.To, refusals)
		return out, nil
	}
	out.Plan, out.Text = &p, p.Text()
	return out, nil
}

// apply answers api.MethodApply.
func (m *mover) apply(ctx context.Context, req api.MoveRequest) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, planLimit)
	defer cancel()
	if m.schedule == nil && req.Waits() {
		return nil, errNoLinks
	}
	if req.Template != "" {
		return m.applyTemplate(ctx, req)
	}
	id := newID()
	p, err := m.planned(ctx, id, req)
	if err != nil {
		return nil, err
	}
	if p.Plan == nil {
		return api.ApplyReply{Refused: []api.Planned{p}}, nil
	}
	req.Host = p.From
	e, err := entry(id, order{MoveRequest: req})
	if err != nil {
		return nil, err
	}
	if err := m.orders.add(ctx, queue.Single(e, req.Priority), *p.Plan); err != nil {
		return nil, err
	}
	begun := api.Begun{ID: id, VM: p.VM, From: p.From, To: p.To}
	if m.schedule != nil {
		begun.At, begun.Why = m.orders.slot(ctx, id)
	}
	return api.ApplyReply{Moves: []api.Begun{begun}, Warnings: p.Plan.Warnings}, nil
}

func entry(id string, what order) (*queue.Entry, error) {
	text, err := json.Marshal(what)
	if err != nil {
		return nil, fmt.Errorf("keep the order: %w", err)
	}
	return &queue.Entry{ID: id, VM: what.VM, Order: text}, nil
}

// list answers api.MethodMoves: what waits or is under way, or one move in whatever state.
func (m *mover) list(_ context.Context, req api.MovesRequest) (any, error) {
	reply := api.MovesReply{Moves: []api.Move{}}
	for _, x := range m.all() {
		if req.ID == "" && x.Ended.IsZero() || req.ID != "" && x.ID == req.ID {
			reply.Moves = append(reply.Moves, x)
		}
	}
	if req.ID != "" && len(reply.Moves) == 0 {
		return nil, fmt.Errorf("no move %q; `ratchetctl migrate status` and `history` list them", req.ID)
	}
	return reply, nil
}

// history answers api.MethodHistory.
func (m *mover) history(_ context.Context, req api.MovesRequest) (any, error) {
	reply := api.MovesReply{Moves: []api.Move{}}
	for _, x := range m.all() {
		if !x.Ended.IsZero() && (req.ID == "" || x.ID == req.ID) {
			reply.Moves = append(reply.Moves, x)
		}
	}
	slices.SortStableFunc(reply.Moves, func(a, b api.Move) int { return a.Ended.Compare(b.Ended) })
	if n := req.Last; n > 0 {
		reply.Moves = reply.Moves[max(0, len(reply.Moves)-n):]
	}
	return reply, nil
}

// all moves and orders that are known. An order is looked for before the move that it becomes, and shown once.
func (m *mover) all() []api.Move {
	orders, now := m.orders.waiting(), time.Now()
	list := slices.Clone(m.orders.notBegun())
	for _, s := range m.runner.Moves() {
		list = append(list, moveOf(s, m.orders.template(s.ID), now))
	}
	return append(list, slices.DeleteFunc(orders, func(o api.Move) bool {
		return slices.ContainsFunc(list, func(x api.Move) bool { return x.ID == o.ID })
	})...)
}

func moveOf(s run.Status, template string, now time.Time) api.Move {
	x := api.Move{
		ID: s.ID, VM: s.VM, From: s.From, To: s.To, State: cmp.Or(string(s.Outcome), string(s.Phase)),
		Step: s.Step, Steps: s.Steps, Doing: s.Doing, Mode: s.Mode,
		Sent: s.Transferred, Remaining: s.Remaining, Total: s.Total, DirtyRate: s.DirtyRate, Bandwidth: s.Bandwidth,
		Gap: s.Gap, Began: s.Planned, Ended: s.Ended, Template: template, Problem: s.Problem, Why: s.Why,
	}
	if s.Held {
		x.State = stateHeld
	}
	if s.Outcome == "" && s.ETA > 0 {
		x.Ends = now.Add(s.ETA)
	}
	return x
}

// cancel answers api.MethodCancel.
func (m *mover) cancel(ctx context.Context, req api.IDRequest) (any, error) {
	if waited, err := m.orders.cancelWaiting(ctx, req.ID); waited || err != nil {
		m.f.changed()
		return none{}, err
	}
	return none{}, m.runner.Cancel(req.ID)
}

// retry answers api.MethodRetry.
func (m *mover) retry(_ context.Context, req api.IDRequest) (any, error) {
	return none{}, m.runner.Retry(req.ID)
}

// accept answers api.MethodAccept.
func (m *mover) accept(_ context.Context, req api.IDRequest) (any, error) {
	return none{}, m.runner.Accept(req.ID)
}
