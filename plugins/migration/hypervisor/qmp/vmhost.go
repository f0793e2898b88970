package qmp

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

// AgentChannel is the character device behind the guest agent's port.
const AgentChannel = "agent"

// glance is how often a state is looked at that should have been told by an event: one may be lost with a connection.
const glance = time.Second

// VMHost is a host with the agent vmhost.
type VMHost struct {
	Name    string
	Address string      // HOST:PORT
	TLS     *tls.Config // with the host's name in it; pki.Authority makes one
	// Epoch is the manager's, from 1. The highest that was used goes with what has none of its own.
	Epoch uint64
	// Peers connects to other hosts: a source watches the destination of its transfers.
	Peers func(ctx context.Context, host string) (hypervisor.Port, error)
	// Plain moves memory and disks without TLS. It must be so on both hosts, and in the Options of a transfer.
	Plain bool
	// Transcript gets commands, replies and events as lines of JSON; sent is true for ours. It must not keep the line.
	Transcript func(vm string, sent bool, line []byte)
}

// Port is a hypervisor.Port over the agent on a host with bare QEMU.
type Port struct {
	conf   VMHost
	client *client.Client
	cancel context.CancelFunc
	done   chan struct{} // events have ended

	mu      sync.Mutex
	err     error
	changed chan struct{} // closed and replaced at each event
	events  chan hypervisor.Event
	wanted  bool // someone takes events
}

var _ hypervisor.Port = (*Port)(nil)

// DialVMHost connects to the agent on a host, and listens to its events from then on.
func DialVMHost(ctx context.Context, conf VMHost) (*Port, error) {
	p := newPort(conf, client.New(conf.Address, conf.TLS))
	if err := p.listen(ctx); err != nil {
		return nil, fmt.Errorf("connect to host %s: %w", conf.Name, err)
	}
	return p, nil
}

func newPort(conf VMHost, c *client.Client) *Port {
	c.SetEpoch(conf.Epoch)
	return &Port{conf: conf, client: c, done: make(chan struct{}), changed: make(chan struct{}), events: make(chan hypervisor.Event, eventQueue)}
}

// listen starts to take events, and returns once none can be missed.
func (p *Port) listen(ctx context.Context) error {
	events, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	ready := make(chan struct{})
	go func() {
		err := p.client.Events(events, func() { close(ready) }, p.take)
		p.end(err)
		close(p.done)
	}()
	select {
	case <-ready:
		return nil
	case <-p.done:
		cancel()
		return p.Err()
	case <-ctx.Done():
		cancel()
		<-p.done
		return ctx.Err()
	}
}

func (p *Port) take(e client.Event) {
	if t := p.conf.Transcript; t != nil {
		line, _ := json.Marshal(e)
		t(e.VM, false, line)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	if !p.wanted || p.err != nil {
		return
	}
	select {
	case p.events <- hypervisor.Event{Time: e.Time, VM: e.VM, Name: e.Name, Detail: string(e.Data)}:
	default:
		p.err = ErrSlow
		close(p.events)
		p.cancel()
	}
}

func (p *Port) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
		close(p.events)
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// Events implements hypervisor.Host. They are kept from the first call on.
func (p *Port) Events() <-chan hypervisor.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	return p.events
}

// Err implements hypervisor.Host.
func (p *Port) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Close implements hypervisor.Host.
func (p *Port) Close() error {
	p.cancel()
	<-p.done
	p.client.Close()
	return nil
}

// await looks until done says so, again after each event of the host.
func (p *Port) await(ctx context.Context, done func() (bool, error)) error {
	for {
		p.mu.Lock()
		changed, err := p.changed, p.err
		p.mu.Unlock()
		if err != nil {
			return fmt.Errorf("host %s: %w", p.conf.Name, err)
		}
		// The channel was taken before the look: what happens after it is not missed.
		if ok, err := done(); ok || err != nil {
			return err
		}
		timer := time.NewTimer(glance)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// do runs a QMP command on a VM. A refusal by QEMU is an *Error.
func (p *Port) do(ctx context.Context, vm, command string, args, out any) error {
	p.note(vm, true, map[string]any{"execute": command, "arguments": args})
	r, err := p.client.Do(ctx, vm, command, args)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	p.note(vm, false, r)
	if r.Error != nil {
		return &Error{Command: command, Class: r.Error.Class, Desc: r.Error.Desc}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.Return, out); err != nil {
		return fmt.Errorf("decode reply to %s: %w", command, err)
	}
	return nil
}

func (p *Port) note(vm string, sent bool, v any) {
	if t := p.conf.Transcript; t != nil {
		line, _ := json.Marshal(v)
		t(vm, sent, line)
	}
}

// monitor is do for one VM.
func (p *Port) monitor(vm string) Do {
	return func(ctx context.Context, command string, args, out any) error {
		return p.do(ctx, vm, command, args, out)
	}
}

// List implements hypervisor.Host.
func (p *Port) List(ctx context.Context) ([]hypervisor.VM, error) {
	all, err := p.client.VMs(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]hypervisor.VM, len(all))
	for i, v := range all {
		list[i] = v.VM
	}
	return list, nil
}

// Capabilities implements hypervisor.Port.
func (p *Port) Capabilities(ctx context.Context) (model.Host, error) {
	h, err := p.client.Host(ctx)
	h.TLS = !p.conf.Plain
	return h.Host, err
}

// Describe implements hypervisor.Port.
func (p *Port) Describe(ctx context.Context, vm string) (model.Shape, error) {
	return p.client.Shape(ctx, vm)
}

// Status implements hypervisor.Port.
func (p *Port) Status(ctx context.Context, vm string) (hypervisor.State, error) {
	s, _, err := Status(ctx, p.monitor(vm))
	if errors.Is(err, hypervisor.ErrNoSuchVM) {
		return hypervisor.Absent, nil
	}
	return s, err
}

// find is a VM with the move that it is the destination of; nil when it is not on the host.
func (p *Port) find(ctx context.Context, vm string) (*client.VM, error) {
	all, err := p.client.VMs(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == vm {
			return &all[i], nil
		}
	}
	return nil, nil
}

// Channel implements hypervisor.Port.
func (p *Port) Channel(ctx context.Context, vm string) (net.Conn, error) {
	return p.client.Channel(ctx, vm, AgentChannel)
}

// OpenChannel connects to another character device than the agent's.
func (p *Port) OpenChannel(ctx context.Context, vm, name string) (net.Conn, error) {
	return p.client.Channel(ctx, vm, name)
}

// Plug implements hypervisor.Port.
func (p *Port) Plug(ctx context.Context, vm string, d hypervisor.Plug) error {
	return p.client.Plug(ctx, vm, d)
}

// Unplug implements hypervisor.Port.
func (p *Port) Unplug(ctx context.Context, vm, id string) error {
	return p.client.Unplug(ctx, vm, id)
}

var (
	_ hypervisor.Resident = (*Port)(nil)
	_ hypervisor.Watched  = (*Port)(nil)
	_ hypervisor.Witness  = (*Port)(nil)
)

// StoodStill implements hypervisor.Witness.
func (p *Port) StoodStill(ctx context.Context, m hypervisor.Move) (bool, error) {
	return p.client.StoodStill(p.as(ctx, m), m.VM)
}

// Load implements hypervisor.Watched.
func (p *Port) Load(ctx context.Context) (load.Host, error) { return p.client.Load(ctx) }

// Resident implements hypervisor.Resident.
func (p *Port) Resident(ctx context.Context, vm string) (uint64, error) {
	return p.client.Resident(ctx, vm)
}
