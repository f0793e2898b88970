package lease

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	program "github.com/ratchetos/ratchet/plugins/dataplane/bpf/lease"
	"github.com/ratchetos/ratchet/plugins/dataplane/lease/engine"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// Sizes of the program's tables, as in lease.bpf.c.
const (
	maxServices = 64
	slotCount   = 16
	layout      = 1
)

// cPath, cSlot and cRow are struct path, slot and row.
type cPath struct {
	Host, Source [16]byte
	VNI, Link    uint32
	MAC          [6]byte
	Epoch        uint16
	Family       uint8
	_            [7]byte
}

type cSlot struct {
	Sequence, Until, Generation uint64
	Path                        cPath
	Token, Epoch                uint64
	Agent                       uint32
	Producer                    [64]byte
	_                           uint32
}

type cRow struct {
	Order uint64
	Tag   uint32
	_     [13]uint32
}

type cHashKey struct{ Line, Print [7]uint64 }

// Outcomes count packets by what became of them.
type Outcomes struct {
	Sent      uint64 `json:"sent"`
	Expired   uint64 `json:"expired"`   // dropped: all leases have run out
	NoLease   uint64 `json:"no_lease"`  // dropped: there is none
	Malformed uint64 `json:"malformed"` // dropped
	Fragment  uint64 `json:"fragment"`  // dropped: the first fragment was not seen
	NoRoom    uint64 `json:"no_room"`   // dropped: the kernel refused room for the outer headers
	Moved     uint64 `json:"moved"`     // sent: the flow's lease is over, it got another
}

// agentID names a leasing agent in slots that outlive the process.
func agentID(box string) uint32 { return tagOf(box) }

// Count is what went through a lease.
type Count struct{ Packets, Bytes, Flows uint64 }

// datapath is the program on the overlay device's egress and its tables. One goroutine writes.
type datapath struct {
	loaded     *bpf.Loaded
	attachment *bpf.Attachment
	rows       *bpf.Shared[cRow]
	slots      *bpf.Shared[cSlot]
	next       [maxServices]int // where the search for an empty slot goes on, so that slots rest between leases
}

// openDatapath takes over what is pinned, or loads the program; either way it is on the device's egress afterwards.
// Leases of an earlier process pass what they still may: nothing is renewed before its service is set.
func openDatapath(root string, device *overlay.Device, flows int, vars map[string]any) (*datapath, error) {
	spec, err := program.Spec()
	if err != nil {
		return nil, fmt.Errorf("read the program of leases: %w", err)
	}
	var pins *bpf.Pins
	if root != "" {
		if pins, err = bpf.OpenPins(root, "lease", layout); err != nil {
			// Tables of another version are another version's: leases come anew within a moment.
			if other := (*bpf.LayoutError)(nil); !errors.As(err, &other) {
				return nil, fmt.Errorf("open the pins of leases: %w", err)
			}
		}
	}
	sizes := map[string]uint32{}
	if flows > 0 {
		sizes["lease_flows"] = uint32(flows)
	}
	d := &datapath{}
	if d.loaded, err = bpf.Load(spec, bpf.LoadOptions{
		Pins: pins, Vars: vars, Sizes: sizes,
		Pin: []string{"lease_addresses", "lease_rows", "lease_slots", "lease_key", "lease_flows", "lease_fragments", "lease_counts"},
	}); err != nil {
		return nil, err
	}
	if err := d.open(pins, device); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *datapath) open(pins *bpf.Pins, device *overlay.Device) (err error) {
	if d.rows, err = bpf.Map[cRow](d.loaded.Maps["lease_rows"]); err != nil {
		return err
	}
	if d.slots, err = bpf.Map[cSlot](d.loaded.Maps["lease_slots"]); err != nil {
		return err
	}
	if err := d.makeKey(); err != nil {
		return err
	}
	d.attachment, err = bpf.AttachEgress(pins, d.loaded.Programs["lease_egress"], device.Index)
	return err
}

// makeKey draws the flow hash's key, once: flows must find their way again after a restart.
func (d *datapath) makeKey() error {
	var key cHashKey
	if err := d.loaded.Maps["lease_key"].Lookup(uint32(0), &key); err != nil {
		return fmt.Errorf("read the hash key: %w", err)
	}
	if key != (cHashKey{}) {
		return nil
	}
	if err := binary.Read(rand.Reader, binary.NativeEndian, &key); err != nil {
		return fmt.Errorf("draw the hash key: %w", err)
	}
	if err := d.loaded.Maps["lease_key"].Put(uint32(0), key); err != nil {
		return fmt.Errorf("set the hash key: %w", err)
	}
	return nil
}

// rowsOf gives each service the row it had, or one that nobody needs any more.
func (d *datapath) rowsOf(services []string) ([]int, error) {
	out := make([]int, len(services))
	tags, used := map[uint32]string{}, map[int]bool{}
	for i, name := range services {
		tag := tagOf(name)
		if other, twice := tags[tag]; twice {
			return nil, fmt.Errorf("services %s and %s have the same tag: rename one of them", other, name)
		}
		tags[tag] = name
		out[i] = slices.IndexFunc(d.rows.Elems, func(r cRow) bool { return r.Tag == tag })
		used[out[i]] = true
	}
	for i := range out {
		for at := 0; out[i] < 0 && at < maxServices; at++ {
			if !used[at] {
				out[i], used[at] = at, true
			}
		}
		if out[i] < 0 {
			return nil, fmt.Errorf("%d services: a host leases at most %d", len(services), maxServices)
		}
	}
	return out, nil
}

// begin takes a row for a service and returns the leases that an earlier process left in it. A row of another service
// is emptied. agents are the identities (agentID) of those that this process talks to, in its order.
func (d *datapath) begin(index int, service string, agents []uint32) (left []engine.Using) {
	row := &d.rows.Elems[index]
	tag := tagOf(service)
	for at := range d.row(index) {
		s := &d.row(index)[at]
		agent := slices.Index(agents, s.Agent)
		switch {
		case s.Until == 0:
		case row.Tag != tag || agent < 0:
			d.empty(index, at)
		default:
			left = append(left, s.using(agent))
		}
	}
	if row.Tag != tag {
		atomic.StoreUint64(&row.Order, 0)
		atomic.StoreUint32(&row.Tag, tag)
	}
	return left
}

func (s *cSlot) using(agent int) engine.Using {
	u := engine.Using{Agent: agent, Expires: time.Duration(s.Until)}
	u.Producer = string(bytes.TrimRight(s.Producer[:], "\x00"))
	u.Token, u.Epoch = s.Token, s.Epoch
	u.Target = engine.Target{VNI: s.Path.VNI, MAC: s.Path.MAC, Host: netip.AddrFrom16(s.Path.Host)}
	if s.Path.Family == 4 {
		u.Target.Host = netip.AddrFrom4([4]byte(s.Path.Host[:4]))
	}
	return u
}

// tagOf is what a service is in the flows' hash: never 0, which is an unused row.
func tagOf(service string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(service))
	return h.Sum32() | 1
}

// addresses lists the services' addresses that the program knows, and their rows.
func (d *datapath) addresses() (map[netip.Addr]int, error) {
	out := map[netip.Addr]int{}
	var key [16]byte
	var at uint32
	it := d.loaded.Maps["lease_addresses"].Iterate()
	for it.Next(&key, &at) {
		out[netip.AddrFrom16(key).Unmap()] = int(at)
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("read the services' addresses: %w", err)
	}
	return out, nil
}

// setAddresses makes the program know these addresses and no others; gone are those it knew before.
func (d *datapath) setAddresses(rows map[netip.Addr]int) (gone []netip.Addr, err error) {
	have, err := d.addresses()
	if err != nil {
		return nil, err
	}
	m := d.loaded.Maps["lease_addresses"]
	for a := range have {
		if _, wanted := rows[a]; wanted {
			continue
		}
		if err := m.Delete(a.As16()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("forget address %s: %w", a, err)
		}
		gone = append(gone, a)
	}
	for a, index := range rows {
		if at, known := have[a]; known && at == index {
			continue
		}
		if err := m.Put(a.As16(), uint32(index)); err != nil {
			return nil, fmt.Errorf("set address %s: %w", a, err)
		}
	}
	return gone, nil
}

// outcomes sums what all CPUs have counted.
func (d *datapath) outcomes() (Outcomes, error) {
	var each []Outcomes
	if err := d.loaded.Maps["lease_outcomes"].Lookup(uint32(0), &each); err != nil {
		return Outcomes{}, fmt.Errorf("read the counters of leases: %w", err)
	}
	var sum Outcomes
	for _, o := range each {
		sum.Sent += o.Sent
		sum.Expired += o.Expired
		sum.NoLease += o.NoLease
		sum.Malformed += o.Malformed
		sum.Fragment += o.Fragment
		sum.NoRoom += o.NoRoom
		sum.Moved += o.Moved
	}
	return sum, nil
}

// counts is what went through the slot of a producer.
func (d *datapath) counts(index int, producer string) (Count, error) {
	var sum Count
	for at := range slotCount {
		if s := &d.row(index)[at]; s.Until == 0 || s.using(0).Producer != producer {
			continue
		}
		var each []Count
		if err := d.loaded.Maps["lease_counts"].Lookup(uint32(index*slotCount+at), &each); err != nil {
			return Count{}, fmt.Errorf("read the counters of %s: %w", producer, err)
		}
		for _, c := range each {
			sum.Packets += c.Packets
			sum.Bytes += c.Bytes
			sum.Flows += c.Flows
		}
	}
	return sum, nil
}

// close lets go of program and tables. What is pinned goes on working, until the leases in it run out.
func (d *datapath) close() {
	if d.attachment != nil {
		_ = d.attachment.Close()
	}
	_ = d.rows.Close()
	_ = d.slots.Close()
	d.loaded.Close()
}
