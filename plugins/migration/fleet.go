package migration

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/queue"
	"github.com/ratchetos/ratchet/plugins/migration/template"
)

const (
	// inventoryLimit bounds asking all hosts and agents.
	inventoryLimit = 2 * time.Minute
	// asking is how many VMs are asked at once.
	asking = 8
)

// inventory asks every host that answers and the agents of all its VMs. A host or VM that does not answer is left out,
// with a warning: the rest can be moved all the same.
func (m *mover) inventory(ctx context.Context) (template.Inventory, []string, error) {
	config, rows := m.f.snapshot()
	var inv template.Inventory
	var warnings []string
	var mu sync.Mutex
	warn := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		warnings = append(warnings, fmt.Sprintf(format, args...))
	}
	slots := make(chan struct{}, asking)
	var all sync.WaitGroup
	for _, r := range rows {
		if !r.conf.moves() {
			continue
		}
		p, err := m.port(r.conf.Name)
		if err != nil {
			warn("left out: %v", err)
			continue
		}
		all.Go(func() {
			h, err := capabilities(ctx, r.conf.Name, p)
			if err != nil {
				warn("host %s left out as a target: %v", r.conf.Name, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			inv.Hosts = append(inv.Hosts, h)
		})
		for _, vm := range r.vms {
			all.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				x, err := ask(ctx, p, vm.Name)
				if err != nil {
					warn("VM %s on %s left out: %v", vm.Name, r.conf.Name, err)
					return
				}
				x.Host, x.Type, x.Labels = r.conf.Name, m.given.of(vm.Name), config.labels(vm.Name)
				mu.Lock()
				defer mu.Unlock()
				inv.VMs = append(inv.VMs, x)
			})
		}
	}
	all.Wait()
	var err error
	if inv.Volumes, err = m.volumes.sizes(ctx); err != nil {
		return inv, nil, err
	}
	return inv, warnings, ctx.Err()
}

// ask describes a VM with what its agent reports.
func ask(ctx context.Context, p hypervisor.Port, vm string) (template.VM, error) {
	shape, err := p.Describe(ctx, vm)
	if err != nil {
		return template.VM{}, err
	}
	return template.VM{Name: vm, Shape: shape, Guest: guest(ctx, p, vm)}, nil
}

// expand applies a template to what there is now.
func (m *mover) expand(ctx context.Context, req api.MoveRequest) (model.Template, template.Expansion, error) {
	found, _, err := m.template(ctx, req.Template)
	t := found.Template
	if err != nil {
		return t, template.Expansion{}, err
	}
	config, _ := m.f.snapshot()
	if t.Goal == (model.Goal{}) {
		t.Goal = config.Goal
	}
	if req.Goal != nil {
		t.Goal = *req.Goal
	}
	for _, named := range config.Types {
		if onlyName(t.Type) && t.Type.Name == named.Name {
			t.Type = named
		}
	}
	inv, warnings, err := m.inventory(ctx)
	if err != nil {
		return t, template.Expansion{}, err
	}
	e, err := template.Expand(t, inv, newID())
	e.Warnings = append(e.Warnings, warnings...)
	return t, e, err
}

// onlyName says that a type means a configured one.
func onlyName(t model.VMType) bool {
	r := t.Require
	return t.Name != "" && t.VCPUs == 0 && t.Memory == 0 && t.CPU+t.NIC+t.Disk+r.Machine+r.Accel == "" && len(r.Features) == 0
}

// planTemplate is plan for a template.
func (m *mover) planTemplate(ctx context.Context, req api.MoveRequest) (any, error) {
	_, e, err := m.expand(ctx, req)
	if err != nil {
		return nil, err
	}
	reply := api.PlanReply{Plans: refusedOf(e), Warnings: e.Warnings, Text: e.Text()}
	for _, w := range e.Waves {
		var vms []string
		for _, p := range w.Moves {
			vms = append(vms, p.VM)
			reply.Plans = append(reply.Plans, api.Planned{VM: p.VM, From: p.From, To: p.To, Plan: &p, Text: p.Text()})
		}
		reply.Waves = append(reply.Waves, vms)
	}
	return reply, nil
}

func refusedOf(e template.Expansion) []api.Planned {
	list := []api.Planned{}
	for _, r := range e.Refused {
		list = append(list, api.Planned{VM: r.VM, From: r.From, To: r.Host, Refusals: r.Refusals})
	}
	return list
}

// applyTemplate begins what can be moved. Each move is planned again when its turn comes, by what is true then.
func (m *mover) applyTemplate(ctx context.Context, req api.MoveRequest) (any, error) {
	t, e, err := m.expand(ctx, req)
	if err != nil {
		return nil, err
	}
	reply := api.ApplyReply{Moves: []api.Begun{}, Refused: refusedOf(e), Warnings: e.Warnings}
	moves := e.Moves()
	if len(moves) == 0 {
		return reply, nil
	}
	b := &queue.Batch{Template: t.Name, Priority: t.Priority + req.Priority, Rollout: e.Rollout(t)}
	for _, p := range moves {
		what := order{Hooks: t.Hooks, MoveRequest: api.MoveRequest{
			VM: p.VM, Host: p.From, To: p.To, Change: t.Type, Goal: &t.Goal, Template: t.Name,
			When: req.When, NotBefore: req.NotBefore, Windows: req.Windows, Priority: b.Priority,
		}}
		x, err := entry(p.ID, what)
		if err != nil {
			return nil, err
		}
		b.Entries = append(b.Entries, x)
		reply.Moves = append(reply.Moves, api.Begun{ID: p.ID, VM: p.VM, From: p.From, To: p.To})
	}
	if err := m.orders.add(ctx, b, moves...); err != nil {
		return nil, errors.Join(errors.New("nothing was begun"), err)
	}
	return reply, nil
}
