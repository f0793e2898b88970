package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
)

// queue is how many events may wait to be received.
const queue = 256

// Port is a connection to a daemon.
type Port struct {
	conf  Config
	conn  *remote.Conn
	moves *Moves
	log   *slog.Logger

	events chan hypervisor.Event

	mu      sync.Mutex
	removed map[string][]chan bool // by VM and alias: who waits for a device to go, told whether it went
	flags   map[string][]string    // flags of CPU models, once asked for
}

var _ hypervisor.Port = (*Port)(nil)

// Dial connects to a daemon.
func Dial(ctx context.Context, c Config) (*Port, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	conn, err := c.connect(ctx, remote.Options{Events: true})
	if err != nil {
		return nil, err
	}
	p := &Port{
		conf: c, conn: conn, moves: c.Moves, log: c.Log, events: make(chan hypervisor.Event, queue),
		removed: map[string][]chan bool{}, flags: map[string][]string{},
	}
	if p.moves == nil {
		p.moves = &Moves{}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.log = p.log.With("host", c.Name)
	go p.pump()
	return p, nil
}

// Events implements hypervisor.Host.
func (p *Port) Events() <-chan hypervisor.Event { return p.events }

// Err implements hypervisor.Host.
func (p *Port) Err() error { return p.conn.Err() }

// Close implements hypervisor.Host. The daemon undoes moves that are not complete.
func (p *Port) Close() error {
	p.moves.leave(p.conf.Name)
	return p.conn.Close()
}

// pump passes events on until the connection ends.
func (p *Port) pump() {
	defer close(p.events)
	for {
		select {
		case <-p.conn.Done():
			p.moves.leave(p.conf.Name)
			return
		case e := <-p.conn.Events():
			p.wake(e)
			select {
			case p.events <- event(e):
			default:
				p.conn.End(remote.ErrEvents)
			}
		}
	}
}

// changes are libvirt's words for what happens to a domain, by number.
var changes = [...]string{
	remote.Defined: "defined", remote.Undefined: "undefined", remote.Started: "started", remote.Suspended: "suspended",
	remote.Resumed: "resumed", remote.Stopped: "stopped", remote.Shutdown: "shutdown", 7: "pmsuspended", remote.Crashed: "crashed",
}

func event(e remote.Event) hypervisor.Event {
	ev := hypervisor.Event{Time: time.Now(), VM: e.Domain.Name}
	switch e.Kind {
	case remote.EventDeviceRemoved:
		ev.Name, ev.Detail = "device-removed", fmt.Sprintf("{\"device\":%q}", e.Device)
	case remote.EventRemovalFailed:
		ev.Name, ev.Detail = "device-removal-failed", fmt.Sprintf("{\"device\":%q}", e.Device)
	default:
		ev.Name, ev.Detail = fmt.Sprintf("lifecycle-%d", e.Change), fmt.Sprintf("{\"detail\":%d}", e.Detail)
		if e.Change >= 0 && int(e.Change) < len(changes) {
			ev.Name = changes[e.Change]
		}
	}
	return ev
}

// connect opens another connection to the same daemon.
func (p *Port) connect(ctx context.Context) (*remote.Conn, error) {
	return p.conf.connect(ctx, remote.Options{URI: p.conn.URI()})
}

// lookup finds a VM.
func (p *Port) lookup(ctx context.Context, vm string) (remote.Domain, error) {
	dom, err := p.conn.Lookup(ctx, vm)
	if rpc.IsCode(err, rpc.CodeNoDomain) {
		return dom, fmt.Errorf("%s on %s: %w", vm, p.conf.Name, hypervisor.ErrNoSuchVM)
	}
	if err != nil {
		return dom, fmt.Errorf("look up %s on %s: %w", vm, p.conf.Name, err)
	}
	return dom, nil
}

// active finds a VM that has a QEMU.
func (p *Port) active(ctx context.Context, vm string) (remote.Domain, error) {
	dom, err := p.lookup(ctx, vm)
	if err == nil && dom.ID < 0 {
		return dom, fmt.Errorf("%s on %s is defined, but does not run: %w", vm, p.conf.Name, hypervisor.ErrNoSuchVM)
	}
	return dom, err
}

// gone tells whether err means that the domain is not there any more.
func gone(err error) bool {
	return rpc.IsCode(err, rpc.CodeNoDomain) || errors.Is(err, hypervisor.ErrNoSuchVM)
}
