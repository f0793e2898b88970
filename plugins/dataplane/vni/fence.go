package vni

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/fence"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// fenceLayout is the version of the pinned maps (INVARIANTS.md D3, X1); it changes with the structs below.
const fenceLayout = 1

// The structs of bpf/fence/fence.bpf.c.
type (
	vniRow struct {
		Link, Out  uint32
		Epoch      uint16
		How, Plain uint8
		MAC        [6]byte
		_          [3]uint16
		Attachment uint64
	}
	leaseRow struct {
		until uint64 // atomic; CLOCK_BOOTTIME
		_     [7]uint64
	}
	macKey struct {
		MAC [6]byte
		_   uint16
	}
)

// How a packet gets from the host's end of a port to the instance.
const (
	byEgress  = iota // what the link sends
	byIngress        // what the link receives
	byPeer           // straight into the other end's namespace
)

// Outcomes of the fence's programs, by their number in fence.bpf.c.
var outcomes = [...]string{
	"delivered", "sent", "lease over", "stand-by", "stale epoch", "epoch ahead", "no epoch", "other MAC", "spoofed", "malformed",
}

// Fence is the programs that guard a host's VNIs, and their maps. It has one user at a time, but for Renew.
type Fence struct {
	loaded *bpf.Loaded
	pins   *bpf.Pins
	lease  *bpf.Shared[leaseRow]

	attached map[hook]*bpf.Attachment
	taught   map[uint32]knowledge
}

type hook struct {
	program string
	ifindex int
}

// knowledge is what the maps say of a VNI beside who holds it.
type knowledge struct {
	mac       [6]byte
	addresses []netip.Addr
}

var pinnedMaps = []string{"fence_lease", "fence_vnis", "fence_ports", "fence_macs", "fence_addresses", "fence_counts"}

// OpenFence loads the programs. With pins their maps and their places on links outlive the process: a fence that
// went with a killed agent would let everything through.
func OpenFence(pins *bpf.Pins) (*Fence, error) { return openFence(pins, nil) }

func openFence(pins *bpf.Pins, vars map[string]any) (*Fence, error) {
	spec, err := fence.Spec()
	if err != nil {
		return nil, err
	}
	o := bpf.LoadOptions{Pins: pins, Vars: vars}
	if pins != nil {
		o.Pin = pinnedMaps
	}
	l, err := bpf.Load(spec, o)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	f := &Fence{loaded: l, pins: pins, attached: map[hook]*bpf.Attachment{}, taught: map[uint32]knowledge{}}
	if f.lease, err = bpf.Map[leaseRow](l.Maps["fence_lease"]); err != nil {
		l.Close()
		return nil, err
	}
	return f, nil
}

// Close lets go. What is pinned goes on working.
func (f *Fence) Close() error {
	var errs []error
	for _, a := range f.attached {
		errs = append(errs, a.Close())
	}
	errs = append(errs, f.lease.Close())
	f.loaded.Close()
	return errors.Join(errs...)
}

// Overlay guards what comes out of the overlay's device.
func (f *Fence) Overlay(ifindex int) error { return f.guard("fence_overlay", ifindex, false) }

// Segment guards plain frames that come in at the uplink.
func (f *Fence) Segment(ifindex int) error { return f.guard("fence_segment", ifindex, false) }

func (f *Fence) guard(program string, ifindex int, egress bool) error {
	h := hook{program, ifindex}
	if f.attached[h] != nil {
		return nil
	}
	attach := bpf.AttachIngress
	if egress {
		attach = bpf.AttachEgress
	}
	a, err := attach(f.pins, f.loaded.Programs[program], ifindex)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	f.attached[h] = a
	return nil
}

// Port guards what the instance behind a port of a VNI sends. From here nothing leaves it unless it holds the VNI.
func (f *Fence) Port(id uint32, ifindex int, egress bool) error {
	// The map first: a program without its entry would let pass what it is there to stop.
	if err := f.loaded.Maps["fence_ports"].Put(uint32(ifindex), id); err != nil {
		return fmt.Errorf("fence port %d: %w", ifindex, err)
	}
	return f.guard("fence_out", ifindex, egress)
}

// Forget drops a port whose link has gone.
func (f *Fence) Forget(ifindex int) error {
	h := hook{"fence_out", ifindex}
	var errs []error
	if a := f.attached[h]; a != nil {
		delete(f.attached, h)
		errs = append(errs, a.Detach())
	}
	return errors.Join(append(errs, gone(f.loaded.Maps["fence_ports"].Delete(uint32(ifindex))))...)
}

// Know makes a VNI known by its MAC and addresses, so that its packets stop here unless an instance holds it.
func (f *Fence) Know(id uint32, mac [6]byte, addresses []netip.Addr) error {
	var errs []error
	if old, known := f.taught[id]; known && old.mac != mac {
		errs = append(errs, gone(f.loaded.Maps["fence_macs"].Delete(macKey{MAC: old.mac})))
	}
	errs = append(errs, f.loaded.Maps["fence_macs"].Put(macKey{MAC: mac}, id))
	for _, a := range f.taught[id].addresses {
		errs = append(errs, gone(f.loaded.Maps["fence_addresses"].Delete(a.As16())))
	}
	for _, a := range addresses {
		errs = append(errs, f.loaded.Maps["fence_addresses"].Put(a.As16(), id))
	}
	f.taught[id] = knowledge{mac, addresses}
	// An entry that is there already may be of an instance that holds the VNI; it stays.
	if err := f.loaded.Maps["fence_vnis"].Update(id, vniRow{MAC: mac}, ebpf.UpdateNoExist); !errors.Is(err, ebpf.ErrKeyExist) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Unknow forgets a VNI.
func (f *Fence) Unknow(id uint32) error {
	errs := []error{gone(f.loaded.Maps["fence_vnis"].Delete(id))}
	if k, known := f.taught[id]; known {
		errs = append(errs, gone(f.loaded.Maps["fence_macs"].Delete(macKey{MAC: k.mac})))
		for _, a := range k.addresses {
			errs = append(errs, gone(f.loaded.Maps["fence_addresses"].Delete(a.As16())))
		}
		delete(f.taught, id)
	}
	return errors.Join(errs...)
}

// Holding is an attachment on this host.
type Holding struct {
	Link  int // the port's link on the host
	Out   int // where plain frames leave; 0: the host's stack
	Epoch uint64
	MAC   [6]byte
	How   uint8
	Plain bool
}

// Attach gives a VNI to an instance, in one step: packets go to the one before or to this one.
func (f *Fence) Attach(id uint32, h Holding) error {
	r := vniRow{Link: uint32(h.Link), Out: uint32(h.Out), Epoch: overlay.Wire(h.Epoch), How: h.How, MAC: h.MAC, Attachment: h.Epoch}
	if h.Plain {
		r.Plain = 1
	}
	if err := f.loaded.Maps["fence_vnis"].Put(id, r); err != nil {
		return fmt.Errorf("attach VNI %d: %w", id, err)
	}
	return nil
}

// Detach takes a VNI from its instance. When it returns nil no packet passes any more that was not on its way.
func (f *Fence) Detach(id uint32) error {
	m := f.loaded.Maps["fence_vnis"]
	var r vniRow
	if err := m.Lookup(id, &r); errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("detach VNI %d: %w", id, err)
	}
	r.Link = 0
	if err := m.Put(id, r); err != nil {
		return fmt.Errorf("detach VNI %d: %w", id, err)
	}
	return nil
}

// Held lists what is attached, after an earlier process.
func (f *Fence) Held() (map[uint32]Holding, error) {
	out := map[uint32]Holding{}
	var id uint32
	var r vniRow
	all := f.loaded.Maps["fence_vnis"].Iterate()
	for all.Next(&id, &r) {
		if r.Link != 0 {
			out[id] = Holding{Link: int(r.Link), Out: int(r.Out), Epoch: r.Attachment, MAC: r.MAC, How: r.How, Plain: r.Plain != 0}
		}
	}
	return out, all.Err()
}

// Renew sets the end of the lease, on CLOCK_BOOTTIME in ns; an earlier end than the present changes nothing.
func (f *Fence) Renew(until uint64) {
	end := &f.lease.Elems[0].until
	for {
		now := atomic.LoadUint64(end)
		if until <= now || atomic.CompareAndSwapUint64(end, now, until) {
			return
		}
	}
}

// Until is the end of the lease.
func (f *Fence) Until() uint64 { return atomic.LoadUint64(&f.lease.Elems[0].until) }

// Counters are packets by outcome.
func (f *Fence) Counters() (map[string]uint64, error) {
	out := map[string]uint64{}
	for i, name := range outcomes {
		var cpus []uint64
		if err := f.loaded.Maps["fence_counts"].Lookup(uint32(i), &cpus); err != nil {
			return nil, fmt.Errorf("read counters of the fence: %w", err)
		}
		for _, n := range cpus {
			out[name] += n
		}
	}
	return out, nil
}

func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}
