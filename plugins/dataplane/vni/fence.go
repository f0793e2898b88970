package vni

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/fence"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// fenceLayout is the version of the pinned maps (invariants D3, X1); it changes with the structs below.
const fenceLayout = 1

// The structs of bpf/fence/fence.bpf.c.
type (
	vniRow struct {
		hold       uint64 // atomic; see pack
		attachment uint64
		id, out    uint32
		mac        [6]byte
		_          uint16
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
	rows   *bpf.Shared[vniRow]

	slots map[uint32]uint32 // rows of VNIs
	free  []uint32
	left  []uint32 // rows that programs may still be reading

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

var pinnedMaps = []string{"fence_lease", "fence_rows", "fence_vnis", "fence_ports", "fence_macs", "fence_addresses", "fence_counts"}

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
	f := &Fence{
		loaded: l, pins: pins, attached: map[hook]*bpf.Attachment{}, taught: map[uint32]knowledge{}, slots: map[uint32]uint32{},
	}
	if err := f.share(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// share maps what is written often, and finds the rows that an earlier process gave to VNIs.
func (f *Fence) share() (err error) {
	if f.lease, err = bpf.Map[leaseRow](f.loaded.Maps["fence_lease"]); err != nil {
		return err
	}
	if f.rows, err = bpf.Map[vniRow](f.loaded.Maps["fence_rows"]); err != nil {
		return err
	}
	var id, slot uint32
	taken := map[uint32]bool{}
	all := f.loaded.Maps["fence_vnis"].Iterate()
	for all.Next(&id, &slot) {
		if int(slot) < len(f.rows.Elems) {
			f.slots[id], taken[slot] = slot, true
		}
	}
	for slot := range uint32(len(f.rows.Elems)) {
		if !taken[slot] {
			f.free = append(f.free, slot)
		}
	}
	return errors.Join(all.Err(), f.recall())
}

// recall finds what an earlier process taught: it is to be unlearned like this one's own.
func (f *Fence) recall() error {
	for id := range f.slots {
		f.taught[id] = knowledge{}
	}
	var id uint32
	var mac macKey
	macs := f.loaded.Maps["fence_macs"].Iterate()
	for macs.Next(&mac, &id) {
		k := f.taught[id]
		k.mac = mac.MAC
		f.taught[id] = k
	}
	var address [16]byte
	addresses := f.loaded.Maps["fence_addresses"].Iterate()
	for addresses.Next(&address, &id) {
		k := f.taught[id]
		k.addresses = append(k.addresses, netip.AddrFrom16(address).Unmap())
		f.taught[id] = k
	}
	return errors.Join(macs.Err(), addresses.Err())
}

// Known lists the VNIs that the fence knows, from whichever process.
func (f *Fence) Known() []uint32 { return slices.Sorted(maps.Keys(f.taught)) }

// row gives a VNI a row of its own.
func (f *Fence) row(id uint32) (*vniRow, error) {
	if slot, has := f.slots[id]; has {
		return &f.rows.Elems[slot], nil
	}
	if len(f.free) == 0 {
		if len(f.left) == 0 {
			return nil, fmt.Errorf("VNI %d is one more than the %d that a host can have", id, len(f.rows.Elems))
		}
		if err := bpf.Grace(); err != nil {
			return nil, err
		}
		f.free, f.left = f.left, nil
	}
	slot := f.free[0]
	r := &f.rows.Elems[slot]
	*r = vniRow{id: id}
	if err := f.loaded.Maps["fence_vnis"].Put(id, slot); err != nil {
		return nil, err
	}
	f.free, f.slots[id] = f.free[1:], slot
	return r, nil
}

// Close lets go. What is pinned goes on working.
func (f *Fence) Close() error {
	var errs []error
	for _, a := range f.attached {
		errs = append(errs, a.Close())
	}
	errs = append(errs, f.lease.Close(), f.rows.Close())
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
		errs = append(errs, f.unmap("fence_macs", macKey{MAC: old.mac}, id))
	}
	errs = append(errs, f.loaded.Maps["fence_macs"].Put(macKey{MAC: mac}, id))
	for _, a := range f.taught[id].addresses {
		errs = append(errs, f.unmap("fence_addresses", a.As16(), id))
	}
	for _, a := range addresses {
		errs = append(errs, f.loaded.Maps["fence_addresses"].Put(a.As16(), id))
	}
	f.taught[id] = knowledge{mac, addresses}
	r, err := f.row(id)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	r.mac = mac // an instance that holds the VNI goes on holding it
	return errors.Join(errs...)
}

// Unknow forgets a VNI.
func (f *Fence) Unknow(id uint32) error {
	errs := []error{f.Detach(id), gone(f.loaded.Maps["fence_vnis"].Delete(id))}
	if slot, has := f.slots[id]; has {
		delete(f.slots, id)
		f.left = append(f.left, slot)
	}
	if k, known := f.taught[id]; known {
		errs = append(errs, f.unmap("fence_macs", macKey{MAC: k.mac}, id))
		for _, a := range k.addresses {
			errs = append(errs, f.unmap("fence_addresses", a.As16(), id))
		}
		delete(f.taught, id)
	}
	return errors.Join(errs...)
}

// unmap takes a key from a VNI, unless it is another one's by now: a MAC or an address moves from one to the other in
// any order.
func (f *Fence) unmap(name string, key any, id uint32) error {
	m := f.loaded.Maps[name]
	var now uint32
	if err := m.Lookup(key, &now); err != nil || now != id {
		return gone(err)
	}
	return gone(m.Delete(key))
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

// pack makes the word that says who holds a VNI.
func pack(h Holding) uint64 {
	w := uint64(uint32(h.Link)) | uint64(overlay.Wire(h.Epoch))<<32 | uint64(h.How)<<48
	if h.Plain {
		w |= 1 << 56
	}
	return w
}

// Attach gives a VNI to an instance, in one step: packets go to the one before or to this one.
func (f *Fence) Attach(id uint32, h Holding) error {
	r, err := f.row(id)
	if err != nil {
		return fmt.Errorf("attach VNI %d: %w", id, err)
	}
	r.out, r.mac = uint32(h.Out), h.MAC
	atomic.StoreUint64(&r.attachment, h.Epoch)
	atomic.StoreUint64(&r.hold, pack(h))
	return nil
}

// Detach takes a VNI from its instance. When it returns nil no packet passes any more that was not on its way.
func (f *Fence) Detach(id uint32) error {
	if slot, has := f.slots[id]; has {
		atomic.StoreUint64(&f.rows.Elems[slot].hold, 0)
	}
	return nil
}

// Held lists what is attached, after an earlier process.
func (f *Fence) Held() map[uint32]Holding {
	out := map[uint32]Holding{}
	for id, slot := range f.slots {
		r := &f.rows.Elems[slot]
		w := atomic.LoadUint64(&r.hold)
		h := Holding{
			Link: int(uint32(w)), Out: int(r.out), Epoch: atomic.LoadUint64(&r.attachment), MAC: r.mac,
			How: uint8(w >> 48), Plain: w>>56 != 0,
		}
		switch {
		case h.Link == 0:
		case pack(h) != w: // the process ended between the two stores: nobody was told of this attachment
			atomic.StoreUint64(&r.hold, 0)
		default:
			out[id] = h
		}
	}
	return out
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
