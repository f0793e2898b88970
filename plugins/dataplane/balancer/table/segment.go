package table

import (
	"cmp"
	"container/heap"
	"slices"
)

// portRange is a claim of a VIP on ports of one address and protocol, both ends included.
type portRange struct {
	protocol    uint8
	first, last uint16
	vip         VIPID
	exact       bool // claims this protocol alone
}

// before: of two claims on a port the narrower one holds, then the one for this protocol alone, then the older id.
func (r portRange) before(o portRange) bool {
	return cmp.Or(
		cmp.Compare(r.last-r.first, o.last-o.first),
		cmp.Compare(bit(o.exact), bit(r.exact)),
		cmp.Compare(r.vip, o.vip),
	) < 0
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

type claims []portRange

func (c claims) Len() int           { return len(c) }
func (c claims) Less(i, j int) bool { return c[i].before(c[j]) }
func (c claims) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *claims) Push(x any)        { *c = append(*c, x.(portRange)) }
func (c *claims) Pop() any {
	last := len(*c) - 1
	r := (*c)[last]
	*c = (*c)[:last]
	return r
}

// disjoint cuts claims that overlap into ranges that do not, in order of protocol and port.
func disjoint(in []portRange) []portRange {
	in = slices.Clone(in)
	slices.SortFunc(in, func(a, b portRange) int {
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.first, b.first))
	})
	var out []portRange
	for len(in) > 0 {
		n := slices.IndexFunc(in, func(r portRange) bool { return r.protocol != in[0].protocol })
		if n < 0 {
			n = len(in)
		}
		out = append(out, sweep(in[:n])...)
		in = in[n:]
	}
	return out
}

// sweep goes over the ports of one protocol, from each place where a claim starts or ends to the next.
func sweep(in []portRange) (out []portRange) {
	var edges []int
	for _, r := range in {
		edges = append(edges, int(r.first), int(r.last)+1)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var open claims
	for i, at := range edges[:len(edges)-1] {
		for len(in) > 0 && int(in[0].first) == at {
			heap.Push(&open, in[0])
			in = in[1:]
		}
		for len(open) > 0 && int(open[0].last) < at {
			heap.Pop(&open)
		}
		if len(open) == 0 {
			continue
		}
		piece := open[0]
		piece.first, piece.last = uint16(at), uint16(edges[i+1]-1)
		if n := len(out); n > 0 && out[n-1].vip == piece.vip && int(out[n-1].last)+1 == at {
			out[n-1].last = piece.last
			continue
		}
		out = append(out, piece)
	}
	return out
}
