package group

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// Limits of one control plane. A client's program has room for all of them only when it is told to make it.
const (
	MaxGroups    = 1024
	MaxMembers   = 256 // of one group: a slot is a byte in the client's flow entries
	MaxAddresses = 8   // of one group
	MaxWeight    = 1000
	maxName      = 63 // a DNS label
)

// Version orders all states of a group store. Term says whose: its upper half counts takeovers, its lower half is
// drawn by the box that took it, so no two boxes ever share a term. Epoch counts the changes.
type Version struct {
	Term  uint64 `json:"term"`
	Epoch uint64 `json:"epoch"`
}

// Compare is negative when v is older than w.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Term, w.Term), cmp.Compare(v.Epoch, w.Epoch))
}

// String is takeover.epoch, what an operator compares.
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Term>>32, v.Epoch) }

// Policy says what a client does with a group that it can no longer confirm.
type Policy uint8

// Policies.
const (
	// Closed drops the group's packets: nothing reaches a member that may have been replaced.
	Closed Policy = iota
	// Open goes on with the last membership, and counts what passes.
	Open
)

var policyNames = []string{"closed", "open"}

func (p Policy) String() string { return nameOf(policyNames, p) }

// ParsePolicy reads a policy's name.
func ParsePolicy(s string) (Policy, error) {
	if i := slices.Index(policyNames, s); i >= 0 {
		return Policy(i), nil
	}
	return 0, fmt.Errorf("policy %q is neither closed nor open", s)
}

// State is what a member may be used for.
type State uint8

// States of a member.
const (
	Serving  State = iota // new flows and old ones
	Draining              // old flows only
	Down                  // nothing: unhealthy, or its VNI is attached nowhere
)

var stateNames = []string{"serving", "draining", "down"}

func (s State) String() string { return nameOf(stateNames, s) }

func nameOf[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

// Location is where the instance behind a VNI is attached.
type Location struct {
	Underlay netip.Addr `json:"underlay"` // of the host, the outer destination
	MAC      [6]byte    `json:"mac"`      // of the instance's interface; it stays the same over a fail-over
	Epoch    uint16     `json:"epoch"`    // of the attachment; travels in each packet, receivers drop older ones
}

// Member is a VNI in a group.
type Member struct {
	Name string `json:"name"`
	// Slot is the member's place in the clients' tables; it does not change while the member exists.
	Slot uint16 `json:"slot"`
	// Generation grows when the flows bound to the slot must not be continued: the member went down, or the slot
	// has another owner. Flow entries of an older one are dead without anybody looking for them.
	Generation uint32 `json:"generation"`
	Weight     uint16 `json:"weight"`
	State      State  `json:"state"`
	VNI        uint32 `json:"vni"`
	// Drained says of a member that is down that it drains when it is up again. Clients do not get it.
	Drained bool `json:"drained,omitempty"`
	Location
}

// up ends being down: what an operator drained drains on.
func (m *Member) up() {
	if m.State != Down {
		return
	}
	m.State = Serving
	if m.Drained {
		m.State, m.Drained = Draining, false
	}
}

// Group is an address and the members that answer for it.
type Group struct {
	ID        uint32       `json:"id"`
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
	Policy    Policy       `json:"policy"`
	// Changed is the epoch of the last change.
	Changed uint64   `json:"changed"`
	Members []Member `json:"members,omitempty"` // in the order of their slots
	// Generations are the latest given to each slot, so that a slot's next owner starts after them. Clients do
	// not get them.
	Generations []uint32 `json:"generations,omitempty"`
}

// clone is deep: published groups are never written again.
func (g *Group) clone() *Group {
	c := *g
	c.Addresses = slices.Clone(g.Addresses)
	c.Members = slices.Clone(g.Members)
	c.Generations = slices.Clone(g.Generations)
	return &c
}

// member returns the index of the member with this name, or -1.
func (g *Group) member(name string) int {
	return slices.IndexFunc(g.Members, func(m Member) bool { return m.Name == name })
}

// freeSlot returns the lowest slot without an owner.
func (g *Group) freeSlot() (uint16, bool) {
	var next uint16
	for _, m := range g.Members {
		if m.Slot != next {
			break
		}
		next++
	}
	return next, next < MaxMembers
}

// nextGeneration ends the life of all flows bound to the slot.
func (g *Group) nextGeneration(slot uint16) uint32 {
	for len(g.Generations) <= int(slot) {
		g.Generations = append(g.Generations, 0)
	}
	g.Generations[slot]++
	return g.Generations[slot]
}

func checkName(what, name string) error {
	ok := name != "" && len(name) <= maxName
	for i, r := range name {
		letter, digit := r >= 'a' && r <= 'z', r >= '0' && r <= '9'
		ok = ok && (letter || digit || r == '-' && i > 0)
	}
	if !ok {
		return fmt.Errorf("%s %q must be 1 to %d of a-z, 0-9 and -, beginning with a letter or digit", what, name, maxName)
	}
	return nil
}

func checkAddress(what string, a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() || a.Zone() != "" {
		return fmt.Errorf("%s %s is not a unicast address", what, a)
	}
	return nil
}

// maxVNI is 24 bits (RFC 7348).
const maxVNI = 1<<24 - 1

func checkMember(m Member) error {
	if err := checkName("member", m.Name); err != nil {
		return err
	}
	if m.VNI == 0 || m.VNI > maxVNI {
		return fmt.Errorf("vni %d is outside 1 to %d", m.VNI, maxVNI)
	}
	if m.Weight == 0 || m.Weight > MaxWeight {
		return fmt.Errorf("weight %d is outside 1 to %d; drain a member that shall get no new flows", m.Weight, MaxWeight)
	}
	if m.Location == (Location{}) && m.State != Draining {
		return nil // attached nowhere yet
	}
	return checkLocation(m.Location)
}

func checkLocation(l Location) error {
	if err := checkAddress("the member's host", l.Underlay); err != nil {
		return err
	}
	if l.MAC[0]&1 != 0 || l.MAC == [6]byte{} {
		return fmt.Errorf("%x is not the address of one interface", l.MAC)
	}
	return nil
}
