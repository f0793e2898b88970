package group

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	program "github.com/ratchetos/ratchet/plugins/dataplane/bpf/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// layout is the version of what is pinned (INVARIANTS.md D3, X1); it changes with the structs below.
const layout = 1

// The structs of bpf/group/group.bpf.c.
type (
	memberRow struct {
		underlay   [16]byte // IPv4 in the first four
		source     [16]byte
		vni        uint32
		link       uint32
		generation uint32
		bound      uint16
		epoch      uint16
		mac        [6]byte
		family     uint8
		usable     uint8
	}
	half struct {
		version uint64
		members [MaxMembers]memberRow
		ring    [RingSize]uint16
	}
	row struct {
		word   uint64 // atomic
		tag    uint32
		policy uint32
		_      [6]uint64
	}
	leaseRow struct {
		until       uint64 // atomic; CLOCK_BOOTTIME
		term, epoch uint64 // what has been applied, for the next process
		_           [5]uint64
	}
)

// DatapathOptions is how much room a host's program has. What is pinned already keeps its size.
type DatapathOptions struct {
	Pins   *bpf.Pins // nil: nothing outlives the process
	Groups int       // 64 when 0
	Flows  int       // 65,536 when 0; rounded up to a power of two
}

// Datapath is the program of a client's host and its maps. It has one user at a time.
type Datapath struct {
	loaded    *bpf.Loaded
	pins      *bpf.Pins
	rows      *bpf.Shared[row]
	halves    *bpf.Shared[half]
	lease     *bpf.Shared[leaseRow]
	addresses map[uint32][]netip.Addr // by row

	// flipped holds the rows whose unused half may still be read by a program that began before the flip.
	flipped map[int]bool
	// For tests: two mutants, the word is stored before the half is complete and nobody waits for a grace period; and
	// what is called when a half is half written.
	early, hasty bool
	midway       func()
}

var pinnedMaps = []string{
	"group_addresses", "group_rows", "group_halves", "group_lease", "group_key", "group_flows", "group_fragments", "group_counts", "group_outcomes",
}

// OpenDatapath loads the program, and takes over what an earlier process left pinned.
func OpenDatapath(o DatapathOptions) (*Datapath, error) {
	spec, err := program.Spec()
	if err != nil {
		return nil, err
	}
	if o.Groups == 0 {
		o.Groups = 64
	}
	if o.Flows == 0 {
		o.Flows = 65536
	}
	lines := uint32(1) << bits.Len(uint(max(o.Flows, 64)-1)/8)
	groups := uint32(min(o.Groups, MaxGroups))
	if o.Pins != nil {
		if lines, err = pinnedSize(o.Pins.Path("group_flows"), lines); err != nil {
			return nil, err
		}
		if groups, err = pinnedSize(o.Pins.Path("group_rows"), groups); err != nil {
			return nil, err
		}
	}
	loaded, err := bpf.Load(spec, bpf.LoadOptions{
		Pins: o.Pins, Pin: pinnedMaps,
		Sizes: map[string]uint32{
			"group_rows": groups, "group_halves": 2 * groups, "group_counts": groups * MaxMembers,
			"group_addresses": groups * MaxAddresses, "group_flows": lines,
		},
		Vars: map[string]any{"line_mask": lines - 1},
	})
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	d := &Datapath{loaded: loaded, pins: o.Pins, addresses: map[uint32][]netip.Addr{}, flipped: map[int]bool{}}
	if err := d.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("groups: %w", err), d.Close())
	}
	return d, nil
}

// pinnedSize is the size of a map that is there already; the program's constants have to fit it.
func pinnedSize(path string, otherwise uint32) (uint32, error) {
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return otherwise, nil
	}
	if err != nil {
		return 0, fmt.Errorf("open pinned map %s: %w", path, err)
	}
	defer m.Close()
	return m.MaxEntries(), nil
}

func (d *Datapath) open() (err error) {
	if d.rows, err = bpf.Map[row](d.loaded.Maps["group_rows"]); err != nil {
		return err
	}
	if d.halves, err = bpf.Map[half](d.loaded.Maps["group_halves"]); err != nil {
		return err
	}
	if d.lease, err = bpf.Map[leaseRow](d.loaded.Maps["group_lease"]); err != nil {
		return err
	}
	// The key of the flows' hash lives as long as the flows: drawn once, kept with the pins.
	var key [112]byte
	if err := d.loaded.Maps["group_key"].Lookup(uint32(0), &key); err != nil {
		return fmt.Errorf("read hash key: %w", err)
	}
	if key == [112]byte{} {
		_, _ = rand.Read(key[:]) // never fails (crypto/rand)
		if err := d.loaded.Maps["group_key"].Put(uint32(0), key); err != nil {
			return fmt.Errorf("write hash key: %w", err)
		}
	}
	var address [16]byte
	var at uint32
	all := d.loaded.Maps["group_addresses"].Iterate()
	for all.Next(&address, &at) {
		d.addresses[at] = append(d.addresses[at], netip.AddrFrom16(address).Unmap())
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	for i := range d.rows.Elems {
		d.flipped[i] = true // nobody knows when the last process flipped it
	}
	return nil
}

// Attach puts the program on the egress of the overlay's device.
func (d *Datapath) Attach(ifindex int) (*bpf.Attachment, error) {
	return bpf.AttachEgress(d.pins, d.Program(), ifindex)
}

// Program is what runs; for tests.
func (d *Datapath) Program() *ebpf.Program { return d.loaded.Programs["group_egress"] }

// Close lets go. What is pinned goes on working.
func (d *Datapath) Close() error {
	err := errors.Join(d.rows.Close(), d.halves.Close(), d.lease.Close())
	d.loaded.Close()
	return err
}

// Applied is the version that Done noted last, by whichever process.
func (d *Datapath) Applied() Version {
	l := &d.lease.Elems[0]
	return Version{Term: atomic.LoadUint64(&l.term), Epoch: atomic.LoadUint64(&l.epoch)}
}

// Done notes which version the program has in full.
func (d *Datapath) Done(v Version) {
	l := &d.lease.Elems[0]
	atomic.StoreUint64(&l.term, v.Term)
	atomic.StoreUint64(&l.epoch, v.Epoch)
}

// Confirm lets the membership be used until a time of CLOCK_BOOTTIME. It never takes back.
func (d *Datapath) Confirm(until uint64) {
	if l := &d.lease.Elems[0]; until > atomic.LoadUint64(&l.until) {
		atomic.StoreUint64(&l.until, until)
	}
}

// Left is how much of the lease is left.
func (d *Datapath) Left() time.Duration {
	return time.Duration(int64(atomic.LoadUint64(&d.lease.Elems[0].until) - bpf.BootNow()))
}

// Way finds the link and the source address towards a member's host.
type Way func(host netip.Addr) (overlay.Path, error)

// Set programs a group: packets see its old membership or this one. Members to whose host there is no way get no
// flows; unreachable says which. After an error the group is not in the program at all: nothing goes where it went
// before.
func (d *Datapath) Set(g *Group, way Way) (unreachable, err error) {
	if unreachable, err = d.set(g, way); err != nil {
		err = errors.Join(err, d.Remove(g.ID))
	}
	return unreachable, err
}

func (d *Datapath) set(g *Group, way Way) (unreachable, err error) {
	at := d.rowOf(g.ID)
	if at >= 0 && (d.rows.Elems[at].policy != uint32(g.Policy) || !sameAddresses(d.addresses[uint32(at)], g.Addresses)) {
		// Another group under the same number: the number was given by another control plane.
		if err := d.clear(at); err != nil {
			return nil, err
		}
		at = -1
	}
	fresh := at < 0
	if fresh {
		if at, err = d.freeRow(g); err != nil {
			return nil, err
		}
		if err := d.grace(at); err != nil {
			return nil, err
		}
		d.rows.Elems[at].tag, d.rows.Elems[at].policy = g.ID, uint32(g.Policy)
	}
	if err := d.grace(at); err != nil {
		return nil, err
	}
	word := atomic.LoadUint64(&d.rows.Elems[at].word)
	next := (g.Changed << 1) | (^word & 1)
	if d.early {
		atomic.StoreUint64(&d.rows.Elems[at].word, next)
	}
	h, was := &d.halves.Elems[2*at+int(next&1)], &d.halves.Elems[2*at+int(word&1)]
	if fresh {
		was.forget(h)
	}
	unreachable = h.fill(was, g, way, d.midway)
	atomic.StoreUint64(&d.rows.Elems[at].word, next)
	d.flipped[at] = true
	if fresh {
		d.addresses[uint32(at)] = slices.Clone(g.Addresses)
		for _, a := range g.Addresses {
			if err := d.loaded.Maps["group_addresses"].Put(a.As16(), uint32(at)); err != nil {
				return nil, fmt.Errorf("program address %s: %w", a, err)
			}
		}
	}
	return unreachable, nil
}

// fill writes a half that no program reads. was is the half in use: a slot keeps what its flows are bound to as
// long as the same VNI of the same generation owns it.
func (h *half) fill(was *half, g *Group, way Way, midway func()) error {
	h.version = g.Changed
	usable := slices.Clone(g.Members)
	var problems []error
	for i := range h.members {
		h.members[i] = memberRow{bound: was.members[i].bound, vni: was.members[i].vni, generation: was.members[i].generation}
	}
	for i, m := range g.Members {
		r := &h.members[m.Slot]
		if old := &was.members[m.Slot]; old.vni != m.VNI || old.generation != m.Generation {
			r.bound = (old.bound + 1) & 0xfff
		}
		r.vni, r.generation, r.epoch, r.mac = m.VNI, m.Generation, m.Epoch, m.MAC
		if m.State == Down {
			continue
		}
		path, err := way(m.Underlay)
		if err != nil {
			usable[i].State = Down
			problems = append(problems, fmt.Errorf("member %s of group %s: %w", m.Name, g.Name, err))
			continue
		}
		r.link, r.usable, r.family = uint32(path.Index), 1, 6
		r.underlay, r.source = m.Underlay.As16(), path.Source.As16()
		if m.Underlay.Is4() {
			r.family = 4
			r.underlay, r.source = four(m.Underlay), four(path.Source)
		}
	}
	if midway != nil {
		midway()
	}
	h.ring = *Spread(usable)
	return errors.Join(problems...)
}

// forget makes what a row was used for before count for nothing: no flow is bound to what comes.
func (h *half) forget(other *half) {
	for i := range h.members {
		h.members[i] = memberRow{bound: max(h.members[i].bound, other.members[i].bound)}
	}
}

func four(a netip.Addr) (b [16]byte) {
	if a.Is4() {
		as4 := a.As4()
		copy(b[:], as4[:])
	}
	return b
}

// Remove takes a group out: its addresses are nobody's any more.
func (d *Datapath) Remove(id uint32) error {
	if at := d.rowOf(id); at >= 0 {
		return d.clear(at)
	}
	return nil
}

// Programmed lists the groups that are in the program, by number, with their addresses.
func (d *Datapath) Programmed() map[uint32][]netip.Addr {
	all := map[uint32][]netip.Addr{}
	for at := range d.rows.Elems {
		if r := &d.rows.Elems[at]; r.word != 0 {
			all[r.tag] = d.addresses[uint32(at)]
		}
	}
	return all
}

func (d *Datapath) clear(at int) error {
	for _, a := range d.addresses[uint32(at)] {
		if err := d.loaded.Maps["group_addresses"].Delete(a.As16()); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take out address %s: %w", a, err)
		}
	}
	delete(d.addresses, uint32(at))
	// The half stays as it is: a program that has just looked the address up may still read it.
	atomic.StoreUint64(&d.rows.Elems[at].word, 0)
	d.flipped[at] = true
	return nil
}

// rowOf is the row of a group, -1 if it has none.
func (d *Datapath) rowOf(id uint32) int {
	return slices.IndexFunc(d.rows.Elems, func(r row) bool { return r.word != 0 && r.tag == id })
}

func (d *Datapath) freeRow(g *Group) (int, error) {
	for at := range d.rows.Elems {
		if d.rows.Elems[at].word == 0 {
			return at, nil
		}
	}
	return 0, fmt.Errorf("group %s: the program has room for %d groups: raise groups.capacity of this host's agent", g.Name, len(d.rows.Elems))
}

// grace makes sure that no program still reads what the last flip of a row took out of use.
func (d *Datapath) grace(at int) error {
	if !d.flipped[at] || d.hasty {
		return nil
	}
	return d.Settle()
}

// Settle waits until no program reads what was taken out of use: the next change does not have to.
func (d *Datapath) Settle() error {
	if len(d.flipped) == 0 {
		return nil
	}
	if err := bpf.Grace(); err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	clear(d.flipped)
	return nil
}

func sameAddresses(a, b []netip.Addr) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}
