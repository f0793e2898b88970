package table

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// EventKind is what happened to a flow.
type EventKind uint8

// Kinds.
const (
	FlowEstablished = EventKind(lb.Established) // both sides have spoken
	FlowClosing     = EventKind(lb.Closing)     // the client said FIN or RST
)

// FlowEvent tells another balancer what it needs to carry a flow on.
type FlowEvent struct {
	Kind     EventKind
	VIP      VIPID
	Backend  BackendID
	Client   netip.AddrPort
	Local    netip.AddrPort
	Protocol uint8
}

const eventBatch = 256

// Events turns events on and gives them to f, in batches, until ctx ends. One caller at a time. When f is too slow the
// ring fills up, events are lost and counted under "event lost": then only an Export makes the other side whole.
func (t *Table) Events(ctx context.Context, f func([]FlowEvent)) error {
	return t.events(ctx, func() {}, f)
}

// events calls ready when no event is missed any more.
func (t *Table) events(ctx context.Context, ready func(), f func([]FlowEvent)) error {
	r, err := ringbuf.NewReader(t.loaded.Maps["events"])
	if err != nil {
		return fmt.Errorf("open ring of events: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	defer stop()
	defer r.Close()
	atomic.StoreUint32(&t.control().Events, 1)
	defer atomic.StoreUint32(&t.control().Events, 0)
	ready()
	var record ringbuf.Record
	batch := make([]FlowEvent, 0, eventBatch)
	for {
		if err := r.ReadInto(&record); err != nil {
			return ended(ctx, err)
		}
		batch = appendEvent(batch, record.RawSample)
		if len(batch) == cap(batch) || record.Remaining == 0 {
			f(batch)
			batch = batch[:0]
		}
	}
}

// ended is nil when reading ended because ctx did.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, ringbuf.ErrClosed) || errors.Is(err, os.ErrClosed)) {
		return nil
	}
	return err
}

func appendEvent(batch []FlowEvent, raw []byte) []FlowEvent {
	if len(raw) < int(unsafe.Sizeof(lb.Event{})) {
		return batch
	}
	e := (*lb.Event)(unsafe.Pointer(unsafe.SliceData(raw)))
	var p [4]byte
	binary.LittleEndian.PutUint32(p[:], e.Ports)
	return append(batch, FlowEvent{
		Kind: EventKind(e.Kind), VIP: VIPID(e.Vip), Backend: BackendID(e.Backend), Protocol: e.Protocol,
		Client: netip.AddrPortFrom(address(e.Client, e.Family), binary.BigEndian.Uint16(p[:])),
		Local:  netip.AddrPortFrom(address(e.Local, e.Family), binary.BigEndian.Uint16(p[2:])),
	})
}
