package migration

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// agentLimit is how long an agent may take to report before the guest counts as one without.
const agentLimit = 10 * time.Second

// order is what the queue keeps of a move.
type order struct {
	api.MoveRequest
	Hooks model.Hooks `json:"hooks,omitzero"`
}

// make plans one move. An error is something that could not be asked; what speaks against the move is a refusal.
func (m *mover) make(ctx context.Context, id string, req order) (plan.Plan, []plan.Refusal, error) {
	in, err := m.input(ctx, id, req)
	if err != nil {
		return plan.Plan{}, nil, err
	}
	p, refusals := plan.Make(in)
	return p, refusals, nil
}

// input asks everyone who knows something: both hosts, the guest's agent and the gateway, beside each other.
func (m *mover) input(ctx context.Context, id string, req order) (plan.Input, error) {
	config, rows := m.f.snapshot()
	in := plan.Input{ID: id, Goal: config.Goal, Hooks: req.Hooks}
	if req.Goal != nil {
		in.Goal = *req.Goal
	}
	var err error
	if in.Type, err = config.typeOf(req.MoveRequest); err != nil {
		return in, err
	}
	vm, err := m.locate(ctx, rows, req.MoveRequest)
	if err != nil {
		return in, err
	}
	if vm.Host == req.To {
		return in, finally("VM %q is on %s already", req.VM, req.To)
	}
	source, sourceErr := m.port(vm.Host)
	target, targetErr := m.port(req.To)
	if err := errors.Join(sourceErr, targetErr); err != nil {
		return in, err
	}
	for _, r := range rows {
		if r.conf.Name == req.To {
			for _, other := range r.vms {
				in.Residents = append(in.Residents, plan.Resident{VM: other.Name, UUID: other.UUID})
			}
		}
	}
	var all sync.WaitGroup
	var errs [4]error
	all.Go(func() { in.Shape, errs[0] = source.Describe(ctx, req.VM) })
	all.Go(func() { in.Source, errs[1] = capabilities(ctx, vm.Host, source) })
	all.Go(func() { in.Target, errs[2] = capabilities(ctx, req.To, target) })
	all.Go(func() { in.Volumes, errs[3] = m.volumes.sizes(ctx) })
	all.Go(func() { in.Guest = guest(ctx, source, req.VM) })
	all.Wait()
	return in, errors.Join(errs[:]...)
}

// capabilities are a host's, under the name that the configuration has for it.
func capabilities(ctx context.Context, name string, p hypervisor.Port) (model.Host, error) {
	h, err := p.Capabilities(ctx)
	h.Name = name
	return h, err
}

// guest is what the agent reports, nil when none answers: whether one is needed is the plan's to say.
func guest(ctx context.Context, p hypervisor.Port, vm string) *model.Guest {
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	c := agent.New(func(ctx context.Context) (net.Conn, error) {
		conn, err := p.Channel(ctx, vm)
		if err != nil {
			cancel() // a VM without the port will not have one in a moment either
		}
		return conn, err
	}, agent.Options{})
	defer c.Close()
	g, err := c.Report(ctx)
	if err != nil {
		return nil
	}
	return &g
}

// typeOf is the type that the VM shall have: a configured one, with what the request says over it.
func (c Config) typeOf(req api.MoveRequest) (model.VMType, error) {
	var t model.VMType
	if req.Type != "" {
		i := slices.IndexFunc(c.Types, func(t model.VMType) bool { return t.Name == req.Type })
		if i < 0 {
			return t, finally("no type %q; `ratchetctl migrate types` lists them", req.Type)
		}
		t = c.Types[i]
	}
	over := req.Change
	for _, field := range []struct{ to, from *string }{{&t.CPU, &over.CPU}, {&t.NIC, &over.NIC}, {&t.Disk, &over.Disk}} {
		if *field.from != "" {
			*field.to = *field.from
		}
	}
	if over.VCPUs > 0 {
		t.VCPUs = over.VCPUs
	}
	if over.Memory > 0 {
		t.Memory = over.Memory
	}
	return t, nil
}

// snapshot is the configuration and what is known of the hosts.
func (f *Feature) snapshot() (Config, []row) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.config, f.rows()
}
