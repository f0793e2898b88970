package link

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Desired is how a link should look.
type Desired struct {
	Name      string // "" keeps the name it has
	MTU       uint32 // bytes; 0 keeps the driver's
	Addresses []netip.Prefix
	Routes    []Route
}

// DefaultMetric6 is what the kernel makes of an IPv6 route's metric 0 (IP6_RT_PRIO_USER).
const DefaultMetric6 = 1024

// Route is a static route over a link.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr // invalid for a directly attached destination
	Metric uint32     // 0 also for DefaultMetric6 of an IPv6 route
}

func (r Route) String() string {
	s := r.To.String()
	if r.Via.IsValid() {
		s += " via " + r.Via.String()
	}
	if r.Metric != 0 {
		s += fmt.Sprintf(" metric %d", r.Metric)
	}
	return s
}

// Observed is how a link looks now.
type Observed struct {
	Index     uint32
	Name      string
	MAC       string
	MTU       uint32
	Up        bool
	Carrier   bool
	Addresses []netip.Prefix // of global scope
	Routes    []Route        // of protocol static
	Counters  Counters
}

// Counters of a link since it appeared, from the kernel's 64-bit statistics.
type Counters struct {
	RxBytes, TxBytes, RxPackets, TxPackets, RxErrors, TxErrors, RxDropped, TxDropped uint64
}

// Verb of an operation.
type Verb string

// The operations, in the order in which a plan may hold them.
const (
	Down          Verb = "down"
	Rename        Verb = "rename"
	SetMTU        Verb = "mtu"
	DeleteRoute   Verb = "delete-route"
	DeleteAddress Verb = "delete-address"
	AddAddress    Verb = "add-address"
	Up            Verb = "up"
	AddRoute      Verb = "add-route"
)

// Op is one operation on the link with this index.
type Op struct {
	Verb    Verb
	Index   uint32
	Name    string
	MTU     uint32
	Address netip.Prefix
	Route   Route
}

func (o Op) String() string {
	switch o.Verb {
	case Rename:
		return fmt.Sprintf("%s %s", o.Verb, o.Name)
	case SetMTU:
		return fmt.Sprintf("%s %d", o.Verb, o.MTU)
	case AddAddress, DeleteAddress:
		return fmt.Sprintf("%s %s", o.Verb, o.Address)
	case AddRoute, DeleteRoute:
		return fmt.Sprintf("%s %s", o.Verb, o.Route)
	default:
		return string(o.Verb)
	}
}

// Plan lists what is missing between the two. An empty plan means the link is as configured.
//
// The order matters: a link is renamed while it is down (kernels before 6.2 refuse otherwise), old addresses go
// before new ones come, so that the first configured one is the primary, and routes come last because their
// gateway must be reachable.
func Plan(d Desired, o Observed) []Op {
	var ops []Op
	up := o.Up
	if d.Name != "" && d.Name != o.Name {
		if up {
			// The kernel drops routes and IPv6 addresses with it, so they are all added again below.
			ops, up = append(ops, Op{Verb: Down}), false
			o.Routes = nil
			o.Addresses = slices.DeleteFunc(slices.Clone(o.Addresses), func(a netip.Prefix) bool { return a.Addr().Is6() })
		}
		ops = append(ops, Op{Verb: Rename, Name: d.Name})
	}
	if d.MTU != 0 && d.MTU != o.MTU {
		ops = append(ops, Op{Verb: SetMTU, MTU: d.MTU})
	}
	for _, r := range sorted(o.Routes, compareRoutes) {
		if !slices.Contains(d.Routes, r) {
			ops = append(ops, Op{Verb: DeleteRoute, Route: r})
		}
	}
	for _, a := range sorted(o.Addresses, comparePrefixes) {
		if !slices.Contains(d.Addresses, a) {
			ops = append(ops, Op{Verb: DeleteAddress, Address: a})
		}
	}
	for _, a := range d.Addresses {
		if !slices.Contains(o.Addresses, a) {
			ops = append(ops, Op{Verb: AddAddress, Address: a})
		}
	}
	if !up {
		ops = append(ops, Op{Verb: Up})
	}
	for _, r := range d.Routes {
		if !slices.Contains(o.Routes, r) {
			ops = append(ops, Op{Verb: AddRoute, Route: r})
		}
	}
	for i := range ops {
		ops[i].Index = o.Index
	}
	return ops
}

func sorted[T any](in []T, by func(a, b T) int) []T {
	return slices.SortedFunc(slices.Values(in), by)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func compareRoutes(a, b Route) int {
	return cmp.Or(comparePrefixes(a.To, b.To), a.Via.Compare(b.Via), cmp.Compare(a.Metric, b.Metric))
}
