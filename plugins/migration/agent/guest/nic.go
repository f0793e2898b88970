package guest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// maxEntries bounds what is moved: a guest with more routes on a card is a router, whose routing daemon must do it.
const maxEntries = 4096

// Network is what the agent needs of the kernel's network. Interfaces are given by index.
type Network interface {
	// Up brings a link up; its carrier comes later.
	Up(index uint32) error
	// Entries are what can be moved of an interface's addresses, routes or neighbours.
	Entries(kind Kind, index uint32) ([]Entry, error)
	// Put adds or replaces, Delete takes away. Neither minds if that is so already.
	Put(e Entry) error
	Delete(e Entry) error
	// Announce tells the segment that the address is at this card now.
	Announce(index uint32, mac string, addr netip.Addr) error
}

// card is an interface of the guest.
type card struct {
	model.GuestNIC
	index uint32
}

// cardOf finds an interface by MAC address.
func (a *Agent) cardOf(mac string) (card, bool) {
	for _, n := range a.nics() {
		if n.MAC != strings.ToLower(mac) {
			continue
		}
		index, err := strconv.ParseUint(a.sys.text(netDir, n.Name, "ifindex"), 10, 31)
		return card{n, uint32(index)}, err == nil
	}
	return card{}, false
}

// swapNIC moves addresses, routes and neighbours between two cards on the same segment, make before break: the new card
// has carrier and the neighbours, and then for a moment both have the addresses.
func (a *Agent) swapNIC(ctx context.Context, n wire.NICs) (wire.NICSwap, error) {
	if n.From == "" || n.To == "" || strings.EqualFold(n.From, n.To) {
		return wire.NICSwap{}, &wire.Error{Code: wire.BadRequest, Text: "two different MAC addresses are needed"}
	}
	var to card
	if !poll(ctx, func() (ok bool) { to, ok = a.cardOf(n.To); return ok }) {
		return wire.NICSwap{}, &wire.Error{Code: wire.NoDevice, Text: fmt.Sprintf("no card %s has appeared; is its driver loaded?", n.To)}
	}
	from, there := a.cardOf(n.From)
	out := wire.NICSwap{From: from.Name, To: to.Name, Addresses: []string{}, Routes: []string{}}
	has, err := a.has(from, there)
	if err != nil {
		return out, err
	}
	if len(has.addresses) == 0 {
		if on, err := a.net.Entries(Address, to.index); err != nil || !there && len(on) == 0 {
			return out, &wire.Error{Code: wire.NoDevice, Text: fmt.Sprintf("no card %s, and %s has no addresses either", n.From, n.To)}
		}
	}
	if there {
		if err := a.simple(from.Name); err != nil {
			return out, err
		}
	}
	if err := a.carrier(ctx, from, to); err != nil {
		return out, err
	}
	return a.move(from, to, has, out)
}

// has is what a card has to be moved.
type has struct{ addresses, routes, neighbours []Entry }

func (a *Agent) has(c card, there bool) (h has, err error) {
	if !there {
		return h, nil
	}
	for kind, list := range map[Kind]*[]Entry{Address: &h.addresses, Route: &h.routes, Neighbour: &h.neighbours} {
		if *list, err = a.net.Entries(kind, c.index); err != nil {
			return h, fmt.Errorf("read what %s has: %w", c.Name, err)
		}
		if len(*list) > maxEntries {
			return h, fmt.Errorf("%s has %d entries of a kind, at most %d are moved: leave it to the routing daemon", c.Name, len(*list), maxEntries)
		}
	}
	// A gateway must be reachable when its route is added.
	slices.SortStableFunc(h.routes, func(x, y Entry) int { return btoi(x.Addr.IsValid()) - btoi(y.Addr.IsValid()) })
	return h, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// simple refuses a card whose addresses are not its own.
func (a *Agent) simple(name string) error {
	if master := a.sys.link(netDir, name, "master"); master != "" {
		return fmt.Errorf("%s is a port of %s: plug the new card there and remove this one", name, master)
	}
	for _, entry := range a.sys.names(netDir, name) {
		if upper, ok := strings.CutPrefix(entry, "upper_"); ok {
			return fmt.Errorf("%s carries %s, which does not move with it", name, upper)
		}
	}
	return nil
}

// carrier brings the new card up as the old one is and waits until it can send. Moving addresses to a card that is still
// negotiating loses everything until it is done: with an e1000 a second and more.
func (a *Agent) carrier(ctx context.Context, from, to card) error {
	if mtu := a.sys.text(netDir, from.Name, "mtu"); from.Name != "" && mtu != a.sys.text(netDir, to.Name, "mtu") {
		if err := a.sys.set(mtu, netDir, to.Name, "mtu"); err != nil {
			return fmt.Errorf("set the MTU of %s to %s: %w", to.Name, mtu, err)
		}
	}
	if err := a.net.Up(to.index); err != nil {
		return fmt.Errorf("bring %s up: %w", to.Name, err)
	}
	if !poll(ctx, func() bool { return a.sys.text(netDir, to.Name, "carrier") == "1" }) {
		return &wire.Error{Code: wire.NotReached, Text: fmt.Sprintf("%s has no carrier; nothing was moved", to.Name)}
	}
	return nil
}

// move does it, and puts everything back if a part of it fails.
func (a *Agent) move(from, to card, h has, out wire.NICSwap) (_ wire.NICSwap, err error) {
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, u := range slices.Backward(undo) {
			err = errors.Join(err, u())
		}
	}()
	step := func(do, back func(Entry) error, e, backward Entry) error {
		if err := do(e); err != nil {
			return fmt.Errorf("move %s from %s to %s: %w", e.Text, from.Name, to.Name, err)
		}
		undo = append(undo, func() error { return back(backward) })
		return nil
	}
	for _, e := range h.neighbours {
		if a.net.Put(e.on(to.index)) == nil { // one that is refused will be asked for again
			out.Neighbours++
		}
	}
	for _, e := range h.addresses {
		out.Addresses = append(out.Addresses, e.Text)
		if err := step(a.net.Put, a.net.Delete, e.on(to.index), e.on(to.index)); err != nil {
			return out, err
		}
	}
	a.resolveGateways(h, to)
	start := time.Now()
	for _, e := range h.routes {
		out.Routes = append(out.Routes, e.Text)
		if err := step(a.net.Put, a.net.Put, e.on(to.index), e); err != nil {
			return out, err
		}
	}
	for _, e := range h.addresses {
		if err := step(a.net.Delete, a.net.Put, e, e); err != nil {
			return out, err
		}
	}
	for _, e := range h.routes {
		if err := step(a.net.Delete, a.net.Put, e, e); err != nil {
			return out, err
		}
		// With an address go all routes that prefer it as their source, the other card's among them.
		if err := a.net.Put(e.on(to.index)); err != nil {
			return out, fmt.Errorf("move %s from %s to %s: %w", e.Text, from.Name, to.Name, err)
		}
	}
	out.Gap = time.Since(start).Microseconds()
	for _, e := range h.addresses {
		if err := a.net.Announce(to.index, to.MAC, e.Addr); err != nil {
			a.log.Warn("announce", "address", e.Text, "card", to.Name, "err", err) // traffic of our own does it as well, later
		}
	}
	return out, nil
}

// resolveGateways has the kernel look for gateways that the old card had not talked to lately.
func (a *Agent) resolveGateways(h has, to card) {
	for _, r := range h.routes {
		known := slices.ContainsFunc(h.neighbours, func(n Entry) bool { return n.Addr == r.Addr })
		if r.Addr.IsValid() && !known {
			_ = a.net.Put(resolve(r.Addr, to.index))
		}
	}
}
