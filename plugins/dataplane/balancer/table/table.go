package table

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// Table is the balancer's datapath. The zero value is of no use; see Open.
type Table struct {
	log    *slog.Logger
	pins   *bpf.Pins // nil: nothing is pinned
	loaded *bpf.Loaded
	key    Key
	cpus   int
	// capturing: somebody has the ring of captures.
	capturing atomic.Bool
	shared    shared

	crediting sync.Mutex // over credits, so that a ring waiting for its grace period holds up no report; taken after mu
	mu        sync.Mutex // whoever changes something
	vips      map[VIP]VIPID
	backends  map[backendIdentity]BackendID
	// retired ids go to others only when nothing leads to them any more: VIPs after a grace period, backends
	// after a sweep that found the rings and the flows without them.
	retiredVIPs     []VIPID
	retiredBackends []BackendID
	space           space
	clock           graceClock
	halfWritten     uint64    // when the inactive half of the VIP table was left, by clock
	inPlace         bool      // the tests' mutant of D3: writes the half that is being read
	before          *outgrown // nil: there is none
	copies          *copies   // nil: there are none
}

// shared is the memory that program and user space have in common.
type shared struct {
	control  *bpf.Shared[lb.Control]
	hosts    *bpf.Shared[lb.Hosts]
	ports    *bpf.Shared[lb.Ranges]
	vips     *bpf.Shared[lb.VIP]
	rings    *bpf.Shared[lb.RingChunk]
	backends *bpf.Shared[lb.Backend]
	credits  *bpf.Shared[lb.Credit]
	flows    *bpf.Shared[lb.FlowLine]
	servers  *bpf.Shared[uint64]
	vipCount *bpf.Shared[lb.VIPCounter]
	beCount  *bpf.Shared[lb.BackendCounter]
	reasons  *bpf.Shared[lb.ReasonCounters]
}

// pinnedMaps are those that outlive the process. The rings of events and captures, and where fragments went,
// are worth nothing to the next one.
var pinnedMaps = [...]string{
	"control", "vip_hosts", "vip_ports", "vips", "rings", "backends", "credits", "flows", "overflow", "servers",
	"vip_counters", "backend_counters", "reasons",
}

// Open takes over what is pinned or makes it. A table that is taken over keeps the sizes it was made with, but for that of its
// flows: with another one they are taken along into new maps.
func Open(o Options) (*Table, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	spec, err := o.spec()
	if err != nil {
		return nil, err
	}
	t := &Table{log: o.Log, vips: make(map[VIP]VIPID), backends: make(map[backendIdentity]BackendID)}
	if o.Pins != "" {
		t.pins, err = bpf.OpenPins(o.Pins, "lb", Layout)
		if layout := (*bpf.LayoutError)(nil); errors.As(err, &layout) {
			t.log.Warn("pinned tables of another version are left alone", "folder", layout.Dir, "layouts", layout.Others)
		} else if err != nil {
			return nil, err
		}
	}
	if t.cpus, err = ebpf.PossibleCPU(); err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	if err := t.load(spec, &o); err != nil {
		return nil, err
	}
	if err := t.share(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.remember()
	if err := t.recover(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	if t.before != nil {
		t.carry(t.before.claim)
	}
	return t, nil
}

// load sets the constants by what is pinned, if anything is, and puts maps and program into the kernel.
func (t *Table) load(spec *ebpf.CollectionSpec, o *Options) error {
	sizes := o.sizes(t.cpus)
	t.key = NewKey()
	if t.pins != nil {
		if err := t.readPinned(sizes); err != nil {
			return err
		}
	}
	if err := t.adoptKey(o.Key); err != nil {
		return err
	}
	if t.pins != nil {
		if err := t.setAside(sizes, o.sizes(t.cpus)); err != nil {
			return err
		}
	}
	source4, _ := words(orUnspecified(o.Source4, false))
	source6, _ := words(orUnspecified(o.Source6, true))
	vars := map[string]any{
		"hash_key":      [2][11]uint64(t.key),
		"source4":       source4[0],
		"source6":       source6,
		"flow_mask":     sizes["flows"] - 1,
		"host_mask":     sizes["vip_hosts"]/2 - 1,
		"port_lines":    sizes["vip_ports"] / 2,
		"vip_count":     sizes["vips"],
		"backend_count": sizes["backends"],
		"path_mtu":      uint32(o.MTU),
		"gue_port":      networkOrder(o.GUEPort),
		"vxlan_port":    networkOrder(o.VXLANPort),
		"reply_limit":   uint32(o.Answers),
	}
	if o.mutant != 0 {
		vars["mutant_on"] = o.mutant
	}
	var err error
	t.loaded, err = bpf.Load(spec, bpf.LoadOptions{Pins: t.pins, Pin: pinnedMaps[:], Sizes: sizes, Vars: vars})
	if err != nil {
		return errors.Join(err, t.before.close())
	}
	return nil
}

// readPinned takes sizes and key from maps of an earlier process.
func (t *Table) readPinned(sizes map[string]uint32) error {
	for _, name := range pinnedMaps {
		m, err := ebpf.LoadPinnedMap(t.pins.Path(name), nil)
		if errors.Is(err, errNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open pinned map %s: %w", name, err)
		}
		if _, sized := sizes[name]; sized {
			sizes[name] = m.MaxEntries()
		}
		if name == "control" {
			err = t.readControl(m)
		}
		if err := errors.Join(err, m.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) readControl(m *ebpf.Map) error {
	control, err := bpf.Map[lb.Control](m)
	if err != nil {
		return err
	}
	c := &control.Elems[0]
	switch c.Layout[0] {
	case 0: // made, but its maker died before it wrote anything
	case Layout:
		t.key = *(*Key)(unsafe.Pointer(&c.Key))
	default:
		err = fmt.Errorf("pinned tables have layout %d, this version uses %d", c.Layout[0], Layout)
	}
	return errors.Join(err, control.Close())
}

// adoptKey takes another key than the pinned one's as long as there is no flow that this would lose.
func (t *Table) adoptKey(k *Key) error {
	if k == nil || *k == t.key {
		return nil
	}
	for _, name := range [...]string{"flows", "flows" + asideSuffix} {
		if has, err := t.hasFlows(name); has || err != nil {
			if has {
				t.log.Warn("the table has flows and keeps its own key", "folder", t.pins.Path(""))
			}
			return err
		}
	}
	t.key = *k
	return nil
}

// hasFlows looks into a pinned map of flows.
func (t *Table) hasFlows(name string) (bool, error) {
	m, err := t.pinned(name)
	if m == nil {
		return false, err
	}
	flows, err := bpf.Map[lb.FlowLine](m)
	if err := errors.Join(err, m.Close()); err != nil {
		return false, err
	}
	has := slices.ContainsFunc(flows.Elems, func(l lb.FlowLine) bool { return l.Entry != [slotsPerLine]uint64{} })
	return has, flows.Close()
}

func (t *Table) share() error {
	s, maps := &t.shared, t.loaded.Maps
	return errors.Join(
		mapped(&s.control, maps["control"]), mapped(&s.hosts, maps["vip_hosts"]), mapped(&s.ports, maps["vip_ports"]),
		mapped(&s.vips, maps["vips"]), mapped(&s.rings, maps["rings"]), mapped(&s.backends, maps["backends"]),
		mapped(&s.credits, maps["credits"]), mapped(&s.flows, maps["flows"]), mapped(&s.servers, maps["servers"]),
		mapped(&s.vipCount, maps["vip_counters"]), mapped(&s.beCount, maps["backend_counters"]), mapped(&s.reasons, maps["reasons"]),
	)
}

func mapped[T any](to **bpf.Shared[T], m *ebpf.Map) (err error) {
	*to, err = bpf.Map[T](m)
	return err
}

// remember puts down what the next process must know, layout last.
func (t *Table) remember() {
	c := t.control()
	// Whoever was listening has gone.
	atomic.StoreUint32(&c.Events, 0)
	atomic.StoreUint32(&c.Capture, 0)
	c.Key = *(*[22]uint64)(unsafe.Pointer(&t.key))
	atomic.StoreUint64(&c.Layout[1], uint64(len(t.shared.flows.Elems)))
	atomic.StoreUint64(&c.Layout[0], Layout)
}

// recover learns from the records who has which id and which part of the rings.
func (t *Table) recover() error {
	t.space = newSpace(len(t.shared.rings.Elems))
	for id := range t.shared.vips.Elems {
		v := &t.shared.vips.Elems[id]
		if v.Used == 0 {
			continue
		}
		identity := VIP{Address: address(v.Address, v.Family), Protocol: Protocol(v.Protocol), First: v.First, Last: v.Last}
		t.vips[identity] = VIPID(id)
		if err := t.space.claim(regionOf(v.Ring)); err != nil {
			return fmt.Errorf("ring of VIP %v: %w", identity.Address, err)
		}
	}
	for id := range t.shared.backends.Elems {
		switch b := &t.shared.backends.Elems[id]; {
		case b.Used != 0:
			t.backends[backendIdentity{address(b.Address, b.Family), b.Key}] = BackendID(id)
		case b.Generation != 0: // removed, and perhaps not yet swept
			t.retiredBackends = append(t.retiredBackends, BackendID(id))
		}
	}
	return nil
}

func (t *Table) control() *lb.Control { return &t.shared.control.Elems[0] }

// Program is the XDP program, for bpf.TestRun.
func (t *Table) Program() *ebpf.Program { return t.loaded.Programs[lb.Program] }

// TookOver is true if flows of an earlier process go on in this table.
func (t *Table) TookOver() bool { return t.loaded.TookOver || t.before != nil }

// Attach puts the program on an interface, in place of an earlier process's, and lets go of others that it was pinned to.
func (t *Table) Attach(ifindex int) (*bpf.Attachment, error) {
	if t.before != nil {
		t.carry(t.before.claim)
	}
	a, err := bpf.AttachXDP(t.pins, t.Program(), ifindex)
	if err != nil {
		return nil, err
	}
	if err := t.pins.KeepOnly("xdp", a); err != nil {
		t.log.Warn("the program may still be on another interface", "err", err)
	}
	if t.before == nil {
		return a, nil
	}
	if err := t.letGo(); err != nil {
		t.log.Warn("the flow table of another size is kept until the next start", "err", err)
	}
	return a, nil
}

// Close lets go of the table. What is pinned goes on forwarding.
func (t *Table) Close() error {
	s := &t.shared
	err := errors.Join(s.control.Close(), s.hosts.Close(), s.ports.Close(), s.vips.Close(), s.rings.Close(),
		s.backends.Close(), s.credits.Close(), s.flows.Close(), s.servers.Close(), s.vipCount.Close(), s.beCount.Close(), s.reasons.Close())
	err = errors.Join(err, t.before.close())
	t.loaded.Close()
	return err
}

// Remove closes the table, takes its program off every interface and forgets all flows.
func (t *Table) Remove() error {
	err := t.Close()
	if t.pins != nil {
		err = errors.Join(err, t.pins.Remove())
	}
	return err
}
