package table

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

const (
	slotsPerLine = 8
	maxLines     = 1<<16 - 1 // of one address; also the highest first line
)

// ErrFull says that there is no room for more of something.
var ErrFull = errors.New("no room")

// errTags: two addresses have one tag with this half of the key. The other half tells them apart.
var errTags = errors.New("two addresses look the same")

// half is one complete table of hosts and port ranges; the program reads one while the other is written.
type half struct {
	hosts []lb.Hosts  // a power of two
	ports []lb.Ranges // line 0 is not used
}

// entry is one VIP of a half.
type entry struct {
	id  VIPID
	vip VIP
}

// fill writes the table of vips with the tags that one half of the key makes.
func (h half) fill(vips []entry, key *Key, keyHalf int) error {
	clear(h.hosts)
	clear(h.ports)
	byAddress := make(map[netip.Addr][]portRange)
	var order []netip.Addr // of the configuration: the same input makes the same table
	for _, e := range vips {
		if byAddress[e.vip.Address] == nil {
			order = append(order, e.vip.Address)
		}
		for _, p := range e.vip.Protocol.wire() {
			byAddress[e.vip.Address] = append(byAddress[e.vip.Address],
				portRange{protocol: p, first: e.vip.First, last: e.vip.Last, vip: e.id, exact: e.vip.Protocol != Any})
		}
	}
	tags := make(map[uint32]bool, len(order))
	next := 1
	for _, a := range order {
		tag := key.host(a, keyHalf)
		if tags[tag] {
			return errTags
		}
		tags[tag] = true
		n, err := h.writePorts(next, disjoint(byAddress[a]))
		if err != nil {
			return err
		}
		if err := h.writeHost(tag, next, n); err != nil {
			return err
		}
		next += n
	}
	return nil
}

// writePorts puts ranges into lines from first on and returns how many it took.
func (h half) writePorts(first int, ranges []portRange) (int, error) {
	n := (len(ranges) + slotsPerLine - 1) / slotsPerLine
	if first+n > len(h.ports) || first+n > maxLines {
		return 0, fmt.Errorf("%w for %d port ranges", ErrFull, len(ranges))
	}
	for i := range n * slotsPerLine {
		r := lb.Range{Low: ^uint32(0)} // behind every key
		if i < len(ranges) {
			p := ranges[i]
			r = lb.Range{Low: uint32(p.protocol)<<16 | uint32(p.first), Span: p.last - p.first, Vip: uint16(p.vip)}
		}
		h.ports[first+i/slotsPerLine].Entry[i%slotsPerLine] = r
	}
	return n, nil
}

// writeHost enters an address into its line or, if that is full, the one behind it, as find_host looks.
func (h half) writeHost(tag uint32, first, lines int) error {
	for i := range 2 {
		line := &h.hosts[(int(tag>>1)+i)&(len(h.hosts)-1)]
		for s := range line.Entry {
			if line.Entry[s] == 0 {
				line.Entry[s] = uint64(tag)<<32 | uint64(first)<<16 | uint64(lines)
				return nil
			}
		}
	}
	return errTags
}
