package remote

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/rpc"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/xdr"
)

// Event is something that happened to a domain.
type Event struct {
	Domain Domain
	// Kind, with Change and Detail for EventLifecycle and Device for the others.
	Kind           EventKind
	Change, Detail int32
	Device         string // its alias
}

// EventKind tells events apart, as virDomainEventID.
type EventKind int32

// Kinds that are subscribed to.
const (
	EventLifecycle     EventKind = 0
	EventDeviceRemoved EventKind = 15
	EventRemovalFailed EventKind = 22
)

// Changes of EventLifecycle.
const (
	Defined   = 0
	Undefined = 1
	Started   = 2
	Suspended = 3
	Resumed   = 4
	Stopped   = 5
	Shutdown  = 6
	Crashed   = 8
)

// Events are those since Open, if it was asked for them. The channel is never closed: see Done.
func (c *Conn) Events() <-chan Event { return c.events }

// subscribe asks for events of all domains.
func (c *Conn) subscribe(ctx context.Context) error {
	for _, kind := range []EventKind{EventLifecycle, EventDeviceRemoved, EventRemovalFailed} {
		err := c.do(ctx, connectEventRegister, func(e *xdr.Encoder) { e.Int32(int32(kind)); e.Bool(false) }, func(d *xdr.Decoder) { d.Int32() })
		if err != nil {
			return fmt.Errorf("subscribe to events of kind %d: %w", kind, err)
		}
	}
	return nil
}

// take queues an event. The wire's reading goroutine calls it.
func (c *Conn) take(p rpc.Proc, payload []byte) {
	ev, ok := parseEvent(p, payload)
	if !ok {
		return // of a kind that was not asked for, or of a newer form: what follows from it is seen by asking
	}
	select {
	case c.events <- ev:
	default:
		c.End(ErrEvents)
	}
}

// parseEvent reads an event's payload.
func parseEvent(p rpc.Proc, payload []byte) (Event, bool) {
	if p.Program != remoteProgram {
		return Event{}, false
	}
	d := xdr.NewDecoder(payload)
	d.Int32() // the subscription
	ev := Event{Domain: decodeDomain(d)}
	switch procedure(p.Number) {
	case eventLifecycle:
		ev.Kind, ev.Change, ev.Detail = EventLifecycle, d.Int32(), d.Int32()
	case eventDeviceRemoved:
		ev.Kind, ev.Device = EventDeviceRemoved, d.String(maxName)
	case eventDeviceRemovalFailed:
		ev.Kind, ev.Device = EventRemovalFailed, d.String(maxName)
	default:
		return Event{}, false
	}
	return ev, d.End() == nil
}
