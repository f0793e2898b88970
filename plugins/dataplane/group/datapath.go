package group

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	program "github.com/ratchetos/ratchet/plugins/dataplane/bpf/group"
)

// layout is the version of what is pinned (invariants D3, X1); it changes with the structs below.
const layout = 1

// The structs of bpf/group/maps.h.
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
