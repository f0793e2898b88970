package hypervisortest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// Port is a connection of a manager to a host of a World.
type Port struct {
	w       *World
	name    string
	manager int
	events  chan hypervisor.Event
	closed  bool
	err     error
}

var (
	_ hypervisor.Port    = (*Port)(nil)
	_ hypervisor.Watched = (*Port)(nil)
	_ hypervisor.Witness = (*Port)(nil)
)

// StoodStill implements hypervisor.Witness.
func (p *Port) StoodStill(ctx context.Context, m hypervisor.Move) (yes bool, err error) {
	err = p.move(ctx, "StoodStill", m, func(h *host) error {
		yes = h.vms[m.VM] == nil && h.still[m.VM]
		return nil
	})
	return yes, err
}

// Load implements hypervisor.Watched.
func (p *Port) Load(ctx context.Context) (l load.Host, err error) {
	err = p.call(ctx, "load", "", func(h *host) error {
		l = h.load
		return nil
	})
	return l, err
}

// Port connects the manager that lives now to a host.
func (w *World) Port(name string) (*Port, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hosts[name] == nil {
		return nil, fmt.Errorf("connect to %s: there is no such host", name)
	}
	p := &Port{w: w, name: name, manager: w.manager, events: make(chan hypervisor.Event, 256)}
	w.ports = append(w.ports, p)
	return p, nil
}

func (p *Port) tell(e hypervisor.Event) {
	if p.closed {
		return
	}
	select {
	case p.events <- e:
	default:
		p.end(errors.New("events were not received in time"))
	}
}

func (p *Port) end(err error) {
	if !p.closed {
		p.closed, p.err = true, err
		close(p.events)
	}
}

// Events implements hypervisor.Host.
func (p *Port) Events() <-chan hypervisor.Event { return p.events }

// Err implements hypervisor.Host.
func (p *Port) Err() error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.err
}

// Close implements hypervisor.Host.
func (p *Port) Close() error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.end(net.ErrClosed)
	return nil
}

func (p *Port) call(ctx context.Context, name, vm string, do func(h *host) error) error {
	return p.w.call(ctx, p.manager, p.name, name, vm, func() error { return do(p.w.hosts[p.name]) })
}

// move is a call of a move, refused to a manager that is not the newest.
func (p *Port) move(ctx context.Context, name string, m hypervisor.Move, do func(h *host) error) error {
	return p.call(ctx, name, m.VM, func(h *host) error {
		if m.Epoch < h.epoch {
			return fmt.Errorf("epoch %d at %s, which knows %d: %w", m.Epoch, p.name, h.epoch, hypervisor.ErrFenced)
		}
		h.epoch = m.Epoch
		return do(h)
	})
}

// List implements hypervisor.Host.
func (p *Port) List(ctx context.Context) ([]hypervisor.VM, error) {
	var list []hypervisor.VM
	err := p.call(ctx, "List", "", func(h *host) error {
		for _, name := range slices.Sorted(maps.Keys(h.vms)) {
			v := h.vms[name]
			list = append(list, hypervisor.VM{
				Name: name, UUID: v.shape.UUID, State: v.state, Detail: string(v.state), Hypervisor: h.info.Hypervisor,
				VCPUs: v.shape.VCPUs, MaxVCPUs: v.shape.MaxVCPUs, Memory: v.shape.Memory.Total(),
			})
		}
		return nil
	})
	return list, err
}

// Capabilities implements hypervisor.Port.
func (p *Port) Capabilities(ctx context.Context) (c model.Host, err error) {
	err = p.call(ctx, "Capabilities", "", func(h *host) error { c = h.info; return nil })
	return c, err
}

// Describe implements hypervisor.Port.
func (p *Port) Describe(ctx context.Context, vm string) (s model.Shape, err error) {
	err = p.call(ctx, "Describe", vm, func(h *host) error {
		v, err := h.vm(vm)
		if err == nil {
			s = clone(v.shape)
		}
		return err
	})
	return s, err
}

func (h *host) vm(name string) (*process, error) {
	if v := h.vms[name]; v != nil {
		return v, nil
	}
	return nil, fmt.Errorf("%s on %s: %w", name, h.info.Name, hypervisor.ErrNoSuchVM)
}

// Status implements hypervisor.Port.
func (p *Port) Status(ctx context.Context, vm string) (s hypervisor.State, err error) {
	err = p.call(ctx, "Status", vm, func(h *host) error {
		if s = hypervisor.Absent; h.vms[vm] != nil {
			s = h.vms[vm].state
		}
		return nil
	})
	return s, err
}

// Begin implements hypervisor.Port.
func (p *Port) Begin(ctx context.Context, m hypervisor.Move) (t hypervisor.Ticket, err error) {
	err = p.move(ctx, "Begin", m, func(h *host) error {
		v, err := h.vm(m.VM)
		if err != nil {
			return err
		}
		if v.move != "" || v.state == hypervisor.Moved {
			return fmt.Errorf("begin move of %s: it is %s here", m.VM, v.state)
		}
		t = hypervisor.Ticket{Shape: clone(m.Shape)}
		return nil
	})
	return t, err
}

// Prepare implements hypervisor.Port.
func (p *Port) Prepare(ctx context.Context, m hypervisor.Move, t hypervisor.Ticket) (a hypervisor.Arrival, err error) {
	err = p.move(ctx, "Prepare", m, func(h *host) error {
		if v := h.vms[m.VM]; v != nil && v.move != m.ID {
			return fmt.Errorf("prepare %s for %s: the host has a VM of that name already", p.name, m.VM)
		}
		if t.Shape.Digest() != m.Shape.Digest() {
			return fmt.Errorf("prepare %s for %s: the ticket is for another shape than the move", p.name, m.VM)
		}
		p.w.kill(p.name, m.VM) // an earlier try
		h.vms[m.VM] = &process{shape: clone(t.Shape), state: hypervisor.Incoming, move: m.ID, life: -1}
		a = hypervisor.Arrival{Address: "memory:" + p.name}
		return nil
	})
	return a, err
}

// Finish implements hypervisor.Port.
func (p *Port) Finish(ctx context.Context, m hypervisor.Move, moved bool) error {
	return p.move(ctx, "Finish", m, func(h *host) error {
		v := h.vms[m.VM]
		if !moved {
			if v != nil && v.move != m.ID {
				return fmt.Errorf("discard %s on %s: it is not the destination of move %s", m.VM, p.name, m.ID)
			}
			p.w.end(p.name, m.VM)
			return nil
		}
		switch {
		case v == nil:
			return fmt.Errorf("let %s run on %s: %w", m.VM, p.name, hypervisor.ErrNoSuchVM)
		case v.move == "" && v.state == hypervisor.Running:
			return nil // done before
		case v.state != hypervisor.Paused && v.state != hypervisor.Failed:
			return fmt.Errorf("let %s run on %s: it is %s, its memory is not all here", m.VM, p.name, v.state)
		}
		v.move = ""
		p.w.run(p.name, v)
		return nil
	})
}

// Confirm implements hypervisor.Port.
func (p *Port) Confirm(ctx context.Context, m hypervisor.Move, moved bool) error {
	return p.move(ctx, "Confirm", m, func(h *host) error {
		v := h.vms[m.VM]
		switch {
		case v == nil && moved:
			return nil
		case v == nil:
			return fmt.Errorf("resume %s on %s: %w", m.VM, p.name, hypervisor.ErrNoSuchVM)
		case v.move != "":
			return fmt.Errorf("confirm move of %s on %s: it is the destination of a move here", m.VM, p.name)
		case moved && v.state != hypervisor.Moved:
			return fmt.Errorf("end %s on %s: it is %s, it has not moved away", m.VM, p.name, v.state)
		case moved:
			p.w.end(p.name, m.VM)
			return nil
		}
		if v.transfer != nil {
			v.transfer.end(cancelled, "the move was undone")
			v.transfer = nil
		}
		p.w.run(p.name, v)
		return nil
	})
}

// end ends a process at the manager's word, and notes when it held the last copy of its guest.
func (w *World) end(host, vm string) {
	p := w.hosts[host].vms[vm]
	w.kill(host, vm)
	if p == nil || !p.whole || p.life != w.guests[vm].life {
		return
	}
	for _, h := range w.hosts {
		if o := h.vms[vm]; o != nil && o.whole && o.life == p.life {
			return
		}
	}
	w.violation("the last copy of %s was ended", vm)
}

func (w *World) behaviour(vm string) Behaviour {
	var b Behaviour
	if w.Guest != nil {
		b = w.Guest(vm)
	}
	if b.Bandwidth == 0 {
		b.Bandwidth = 100e6
	}
	return b
}
