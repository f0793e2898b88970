// Package decap is the backend's side of the balancer's tunnels: an XDP program that takes IPIP, IP6IP6, GUE and
// VXLAN headers off and hands the client's packet to the kernel. The VIP is on the backend's loopback; it answers
// the client directly.
//
// The program goes on while the process is away if it is pinned. It drops, and counts by reason, what is a tunnel's
// but malformed, from a source that is not a balancer, or for an inner address that is none of the VIPs; all other
// traffic passes untouched. A Program may be used from several goroutines.
package decap

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
)

// Layout is the version of what is pinned.
const Layout = 1

// Options of Open. The zero value accepts the three tunnels from anybody, for any address.
type Options struct {
	Pins               string // a directory on a bpffs; empty: the program ends with the process
	GUEPort, VXLANPort uint16 // 6080 and 4789
	// Sources are the balancers'; none: anybody may send.
	Sources []netip.Prefix
	// VIPs are the inner destinations that are accepted; none: all are.
	VIPs []netip.Addr
}

// Program is the loaded program with its maps.
type Program struct {
	pins   *bpf.Pins
	loaded *bpf.Loaded
}

// Spec parses the embedded object.
func Spec() (*ebpf.CollectionSpec, error) { return loadDecap() }

// Open loads the program. Attach then puts it in the place of an earlier one.
func Open(o Options) (*Program, error) {
	spec, err := Spec()
	if err != nil {
		return nil, err
	}
	if o.GUEPort == 0 {
		o.GUEPort = 6080
	}
	if o.VXLANPort == 0 {
		o.VXLANPort = 4789
	}
	p := &Program{}
	if o.Pins != "" {
		var layout *bpf.LayoutError
		if p.pins, err = bpf.OpenPins(o.Pins, "decap", Layout); err != nil && !errors.As(err, &layout) {
			return nil, err
		}
	}
	// Only the link and the counters are pinned: the lists are this configuration's.
	p.loaded, err = bpf.Load(spec, bpf.LoadOptions{Pins: p.pins, Pin: []string{"counters"}, Vars: map[string]any{
		"gue_port":           swap(o.GUEPort),
		"vxlan_port":         swap(o.VXLANPort),
		"check_sources":      flag(len(o.Sources) > 0),
		"check_destinations": flag(len(o.VIPs) > 0),
	}})
	if err != nil {
		return nil, err
	}
	vips := make([]netip.Prefix, len(o.VIPs))
	for i, a := range o.VIPs {
		vips[i] = netip.PrefixFrom(a, a.BitLen())
	}
	if err := errors.Join(fill(p.loaded.Maps["sources"], o.Sources), fill(p.loaded.Maps["destinations"], vips)); err != nil {
		p.loaded.Close()
		return nil, err
	}
	return p, nil
}

func swap(port uint16) uint16 { return port<<8 | port>>8 }

func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func fill(m *ebpf.Map, list []netip.Prefix) error {
	for _, p := range list {
		if !p.IsValid() {
			return fmt.Errorf("prefix %v is not valid", p)
		}
		bits := p.Bits()
		if p.Addr().Is4() {
			bits += 96
		}
		key := slices.Concat([]byte{byte(bits), 0, 0, 0}, sixteen(p.Addr()))
		if err := m.Put(key, uint32(1)); err != nil {
			return fmt.Errorf("enter %v: %w", p, err)
		}
	}
	return nil
}

func sixteen(a netip.Addr) []byte {
	b := a.As16()
	return b[:]
}

// Attach puts the program on an interface: in the driver if it can, else generic.
func (p *Program) Attach(ifindex int) (*bpf.Attachment, error) {
	return bpf.AttachXDP(p.pins, p.loaded.Programs[decapProgDecapsulate], ifindex)
}

// KeepOnly takes the program off the interfaces of an earlier process that are not among these.
func (p *Program) KeepOnly(keep ...*bpf.Attachment) error { return p.pins.KeepOnly("xdp", keep...) }

// XDP is the program itself, for bpf.TestRun.
func (p *Program) XDP() *ebpf.Program { return p.loaded.Programs[decapProgDecapsulate] }

// Counter counts packets and bytes.
type Counter struct{ Packets, Bytes uint64 }

// Counters are by number of the C enum reason; 0 is what was handed to the kernel.
func (p *Program) Counters() (map[uint16]Counter, error) {
	all := make(map[uint16]Counter)
	var key uint32
	var cpus []decapCounter
	it := p.loaded.Maps["counters"].Iterate()
	for it.Next(&key, &cpus) {
		var c Counter
		for _, v := range cpus {
			c.Packets += v.Packets
			c.Bytes += v.Bytes
		}
		if c.Packets != 0 {
			all[uint16(key)] = c
		}
	}
	return all, it.Err()
}

// Close lets go; what is pinned goes on.
func (p *Program) Close() { p.loaded.Close() }

// Remove closes it and takes the pinned program off its interfaces.
func (p *Program) Remove() error {
	p.Close()
	if p.pins == nil {
		return nil
	}
	return p.pins.Remove()
}
