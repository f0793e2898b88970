package group

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/overlay"
)

// writer keeps program and routes of this host.
type writer struct {
	o        AgentOptions
	datapath *Datapath
	device   *overlay.Device
	attached *bpf.Attachment
	groups   map[uint32]*programmed
}

// programmed is a group as it was last written.
type programmed struct {
	group *Group
	ways  []overlay.Path // of its members, in their order; zero where there is none
	err   error
}

func openWriter(o AgentOptions) (*writer, error) {
	w := &writer{o: o, groups: map[uint32]*programmed{}}
	var pins *bpf.Pins
	if o.Pins != "" {
		var err error
		if pins, err = bpf.OpenPins(o.Pins, "group", layout); err != nil && !errors.As(err, new(*bpf.LayoutError)) {
			return nil, err
		} else if err != nil {
			o.Log.Warn("flows of another release are left alone", "error", err)
		}
	}
	var err error
	if w.device, err = overlay.Ensure(overlay.Options{MTU: o.Config.MTU}); err != nil {
		return nil, err
	}
	if w.datapath, err = OpenDatapath(DatapathOptions{Pins: pins, Groups: o.Config.Capacity, Flows: o.Config.Flows}); err != nil {
		return nil, err
	}
	if w.attached, err = w.datapath.Attach(w.device.Index); err != nil {
		return nil, errors.Join(err, w.datapath.Close())
	}
	return w, nil
}

func (w *writer) close() {
	_ = w.attached.Close() // pinned, it goes on; else it ends with the process anyway
	_ = w.datapath.Close()
}

func (w *writer) wanted(g *Group) bool {
	return len(w.o.Config.Only) == 0 || slices.Contains(w.o.Config.Only, g.Name)
}

// set programs a group and routes its addresses to the overlay's device. What went wrong is tried again with the
// next look.
func (w *writer) set(g *Group, way Way) {
	if !w.wanted(g) {
		return
	}
	before := w.addresses(g.ID)
	p := w.groups[g.ID]
	if p == nil {
		p = &programmed{}
		w.groups[g.ID] = p
	}
	p.group, p.ways = g, waysOf(g, way)
	unreachable, err := w.datapath.Set(g, way)
	err = errors.Join(unreachable, err, w.unroute(before))
	for _, r := range p.routes() {
		err = errors.Join(err, w.device.Route(r))
	}
	w.note(p, err)
}

// routes are how the group's addresses are reached.
func (p *programmed) routes() (all []overlay.Route) {
	for _, a := range p.group.Addresses {
		all = append(all, overlay.Route{To: netip.PrefixFrom(a, a.BitLen()), Source: source(a, p.ways)})
	}
	return all
}

// note logs what is wrong when it begins and when it is over, not with each look.
func (w *writer) note(p *programmed, err error) {
	switch {
	case err != nil && (p.err == nil || p.err.Error() != err.Error()):
		w.o.Log.Warn("group is not as it should be", "group", p.group.Name, "error", err)
	case err == nil && p.err != nil:
		w.o.Log.Info("group is as it should be", "group", p.group.Name)
	}
	p.err = err
}

// source is what local clients call from: this host's address towards the members, which they answer to directly.
func source(to netip.Addr, ways []overlay.Path) netip.Addr {
	for _, p := range ways {
		if p.Source.IsValid() && p.Source.Is4() == to.Is4() && !p.Source.IsLoopback() {
			return p.Source
		}
	}
	return netip.Addr{}
}

func (w *writer) remove(id uint32) {
	before := w.addresses(id)
	delete(w.groups, id)
	if err := errors.Join(w.datapath.Remove(id), w.unroute(before)); err != nil {
		w.o.Log.Warn("group cannot be taken out", "id", id, "error", err)
	}
}

// addresses are what was programmed under a number last, by this process or an earlier one.
func (w *writer) addresses(id uint32) []netip.Addr {
	if p := w.groups[id]; p != nil {
		return p.group.Addresses
	}
	return w.datapath.Programmed()[id]
}

// unroute takes the routes to these addresses away, but for those that a group has: with another control plane come other
// numbers, and an address may be another group's before its old one is changed or gone.
func (w *writer) unroute(addresses []netip.Addr) (err error) {
	for _, a := range addresses {
		taken := false
		for _, p := range w.groups {
			taken = taken || slices.Contains(p.group.Addresses, a)
		}
		if !taken {
			err = errors.Join(err, w.device.Unroute(netip.PrefixFrom(a, a.BitLen())))
		}
	}
	return err
}

// keepOnly takes out what an earlier process programmed and is no group of this host any more.
func (w *writer) keepOnly(groups []*Group) {
	keep := map[uint32]bool{}
	for _, g := range groups {
		keep[g.ID] = w.wanted(g)
	}
	for id := range w.datapath.Programmed() {
		if !keep[id] {
			w.remove(id)
		}
	}
}

// lookAgain finds out whether the ways to members' hosts are others than before, tries again what failed, and puts routes
// back that the kernel has taken away.
func (w *writer) lookAgain() {
	way := ways()
	var same []*programmed
	var routes []overlay.Route
	for _, p := range w.groups {
		if now := waysOf(p.group, way); p.err != nil || !slices.Equal(now, p.ways) {
			w.set(p.group, way)
			continue
		}
		same, routes = append(same, p), append(routes, p.routes()...)
	}
	kept := w.device.Keep(routes)
	for _, p := range same {
		n := len(p.group.Addresses)
		w.note(p, errors.Join(kept[:n]...))
		kept = kept[n:]
	}
}

// ways asks the kernel once for each host: many members are on one, and in many groups.
func ways() Way {
	type answer struct {
		overlay.Path
		err error
	}
	known := map[netip.Addr]answer{}
	return func(host netip.Addr) (overlay.Path, error) {
		a, ok := known[host]
		if !ok {
			a.Path, a.err = overlay.PathTo(host)
			known[host] = a
		}
		return a.Path, a.err
	}
}

func waysOf(g *Group, way Way) []overlay.Path {
	all := make([]overlay.Path, len(g.Members))
	for i, m := range g.Members {
		if m.State != Down {
			all[i], _ = way(m.Underlay) // without one the zero path; Set says so
		}
	}
	return all
}
