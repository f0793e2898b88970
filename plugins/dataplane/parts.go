package dataplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// part is one of the dataplane's systems: balancer, interface groups, VNIs, leases. Its package says what it does; here
// it is only started, kept and shown. One that is not configured does not exist.
type part interface {
	// Stop lets go of everything but what works in the kernel: traffic outlives the process.
	Stop(ctx context.Context) error
	Tables() []*pluginpb.Table
	Gauges() []*pluginpb.Gauge
	Health() (pluginpb.Event_Health, string)
	Invoke(ctx context.Context, method string, request []byte) ([]byte, error)
}

// typed is a part as its package has it, with the type of what it wants. Apply is called again with the same when a
// link came or went.
type typed[D any] interface {
	part
	Start(ctx context.Context, desired D) error
	Apply(ctx context.Context, desired D) error
}

// running is one part of this process.
type running struct {
	module
	part
	start, apply func(context.Context, *desired) error
	started      bool
	err          error // why it could not be started or does not follow the configuration
	has          state // what it was told last
}

// state is what a part depends on.
type state struct {
	desired *desired
	links   uint64 // generation of the links
}

// adapt leaves the type behind. pick is only called with a section that has this part.
func adapt[D any](m module, p typed[D], pick func(*desired) D) *running {
	return &running{
		module: m, part: p,
		start: func(ctx context.Context, d *desired) error { return p.Start(ctx, pick(d)) },
		apply: func(ctx context.Context, d *desired) error { return p.Apply(ctx, pick(d)) },
	}
}

// module is what there can be of a part.
type module struct {
	// name is its key in the section, and its prefix in the state store.
	name string
	// hosts says that it is nothing without agents.
	hosts   bool
	methods func() []*pluginpb.Method
	wanted  func(*desired) bool
	make    func(module, resources) *running
}

// parts are those of one process, in the order of their start.
type parts []*running

// stepTimeout bounds one Start or Apply of one part.
const stepTimeout = 20 * time.Second

// settle starts what has not been started and tells the others what has changed; a part that fails leaves the rest alone
// and is tried again. It says whether all are as configured.
func (ps parts) settle(ctx context.Context, d *desired, links uint64) (settled bool) {
	settled = true
	for _, p := range ps {
		now := state{d, links}
		if p.started && p.err == nil && p.has == now {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, stepTimeout)
		if p.started {
			p.err = p.apply(ctx, d)
		} else {
			p.err = p.start(ctx, d)
			p.started = p.err == nil
		}
		cancel()
		p.has = now
		settled = settled && p.err == nil
	}
	return settled
}

// stop stops the started ones, the latest first.
func (ps parts) stop(ctx context.Context) error {
	var errs []error
	for i := len(ps) - 1; i >= 0; i-- {
		if ps[i].started {
			if err := ps[i].Stop(ctx); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", ps[i].name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// remover is a part that leaves something in the kernel on Stop which must go with its section of the configuration.
type remover interface {
	Remove(ctx context.Context) error
}

// remove ends the started ones that a new section does not have, with what they have in the kernel.
func (ps parts) remove(d *desired) error {
	var errs []error
	for _, p := range ps {
		r, ok := p.part.(remover)
		if !ok || !p.started || p.wanted(d) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		if err := r.Remove(ctx); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", p.name, err))
		}
		cancel()
	}
	return errors.Join(errs...)
}

// show adds what the parts show to an event. The worst of all healths is the plugin's.
func (ps parts) show(e *pluginpb.Event) {
	var messages []string
	if e.GetMessage() != "" {
		messages = append(messages, e.GetMessage())
	}
	for _, p := range ps {
		if p.err != nil {
			e.Health = max(e.Health, pluginpb.Event_DEGRADED)
			messages = append(messages, p.name+": "+p.err.Error())
		}
		if !p.started {
			continue
		}
		e.Tables, e.Gauges = append(e.Tables, p.Tables()...), append(e.Gauges, p.Gauges()...)
		health, message := p.Health()
		e.Health = max(e.Health, health)
		if message != "" {
			messages = append(messages, p.name+": "+message)
		}
	}
	e.Message = strings.Join(messages, "; ")
}

// find finds the started part whose method it is.
func (ps parts) find(method string) (*running, error) {
	for _, m := range modules() {
		for _, has := range m.methods() {
			if has.GetName() == method {
				return ps.started(m.name)
			}
		}
	}
	return nil, fmt.Errorf("unknown method %q", method)
}

func (ps parts) started(name string) (*running, error) {
	for _, p := range ps {
		if p.name != name {
			continue
		}
		if !p.started {
			return nil, fmt.Errorf("%s could not be started yet: %w", name, p.err)
		}
		return p, nil
	}
	return nil, fmt.Errorf("%s is not configured: add plugins.dataplane.%s (docs/reference/configuration.md)", name, name)
}
