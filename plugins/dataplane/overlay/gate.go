package overlay

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	program "github.com/ratchetos/ratchet/plugins/dataplane/bpf/overlay"
)

// layout is the version of the gate's pinned maps.
const layout = 1

// GateOptions make a Gate.
type GateOptions struct {
	Pins   string // directory on a bpffs; empty: nothing outlives the process (tests)
	Device *Device
}

// Delivery says what becomes of a VNI's packets.
type Delivery struct {
	Epoch  uint16 // the lowest that is accepted; 0: any, also packets without one
	Link   int    // the instance's link; 0: the host's own stack
	Closed bool   // nothing is accepted
}

// delivery is Delivery in overlay.bpf.c.
type delivery struct {
	Epoch uint16
	Flags uint16
	Link  uint32
}

const flagClosed = 1

// GateCounters count packets by what became of them.
type GateCounters struct {
	Accepted uint64 `json:"accepted"`
	Stale    uint64 `json:"stale"`   // dropped: an older epoch, or none where one is due
	Closed   uint64 `json:"closed"`  // dropped: the VNI is closed here
	Unknown  uint64 `json:"unknown"` // passed on: not a VNI of the gate's
}

// Gate is the program on the device's ingress and its table of VNIs.
type Gate struct {
	loaded     *bpf.Loaded
	attachment *bpf.Attachment
	deliveries *ebpf.Map
	outcomes   *ebpf.Map
}

// OpenGate takes over what is pinned, or loads the program and attaches it.
func OpenGate(o GateOptions) (*Gate, error) { return openGate(o, nil) }

func openGate(o GateOptions, vars map[string]any) (*Gate, error) {
	spec, err := program.Spec()
	if err != nil {
		return nil, fmt.Errorf("read the overlay's program: %w", err)
	}
	var pins *bpf.Pins
	if o.Pins != "" {
		if pins, err = bpf.OpenPins(o.Pins, "overlay", layout); err != nil {
			// What another version pinned has another table: this one starts with its own, and its owner fills it.
			if other := (*bpf.LayoutError)(nil); !errors.As(err, &other) {
				return nil, fmt.Errorf("open the gate's pins: %w", err)
			}
		}
	}
	g := &Gate{}
	if g.loaded, err = bpf.Load(spec, bpf.LoadOptions{Pins: pins, Pin: []string{"overlay_deliveries"}, Vars: vars}); err != nil {
		return nil, fmt.Errorf("load the gate: %w", err)
	}
	g.deliveries, g.outcomes = g.loaded.Maps["overlay_deliveries"], g.loaded.Maps["overlay_outcomes"]
	if g.attachment, err = bpf.AttachIngress(pins, g.loaded.Programs["overlay_ingress"], o.Device.Index); err != nil {
		g.loaded.Close()
		return nil, fmt.Errorf("attach the gate to %s: %w", o.Device.Name, err)
	}
	return g, nil
}

// Set says what becomes of a VNI's packets from now on.
func (g *Gate) Set(vni uint32, d Delivery) error {
	value := delivery{Epoch: d.Epoch, Link: uint32(d.Link)}
	if d.Closed {
		value.Flags = flagClosed
	}
	if err := g.deliveries.Put(vni, value); err != nil {
		return fmt.Errorf("set the delivery of VNI %d: %w", vni, err)
	}
	return nil
}

// Get returns what was set; the error is os.ErrNotExist when nothing was.
func (g *Gate) Get(vni uint32) (Delivery, error) {
	var value delivery
	err := g.deliveries.Lookup(vni, &value)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return Delivery{}, fmt.Errorf("delivery of VNI %d: %w", vni, os.ErrNotExist)
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("read the delivery of VNI %d: %w", vni, err)
	}
	return Delivery{Epoch: value.Epoch, Link: int(value.Link), Closed: value.Flags&flagClosed != 0}, nil
}

// Delete makes the gate pass a VNI on, as those it does not know.
func (g *Gate) Delete(vni uint32) error {
	if err := g.deliveries.Delete(vni); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete the delivery of VNI %d: %w", vni, err)
	}
	return nil
}

// Counters sums what all CPUs have counted.
func (g *Gate) Counters() (GateCounters, error) {
	var each []GateCounters
	if err := g.outcomes.Lookup(uint32(0), &each); err != nil {
		return GateCounters{}, fmt.Errorf("read the gate's counters: %w", err)
	}
	var sum GateCounters
	for _, c := range each {
		sum.Accepted += c.Accepted
		sum.Stale += c.Stale
		sum.Closed += c.Closed
		sum.Unknown += c.Unknown
	}
	return sum, nil
}

// Close lets go of the gate. If it is pinned it goes on working.
func (g *Gate) Close() error {
	err := g.attachment.Close()
	g.loaded.Close()
	return err
}
