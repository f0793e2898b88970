package group

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// What a store refuses.
var (
	// ErrFenced: another control plane has taken over, or this one's state is older than what clients have seen.
	ErrFenced = errors.New("another control plane leads the groups; to lead from here: ratchetctl dataplane group promote")
	// ErrNotFound names no group or member.
	ErrNotFound = errors.New("not found")
)

const (
	// maxGone bounds how many deletions are remembered. A client that is further behind gets everything anew.
	maxGone = 1024
	// maxHistory bounds what `group show --log` tells.
	maxHistory = 256
)

// Store is the control plane's state: groups, and the log of epochs compacted to the last change of each group. It
// is a plain value stepped by its owner: an operation yields a Change, which becomes true with Commit, once it is durable.
type Store struct {
	version Version
	seen    Version // the highest that any client has shown
	groups  map[uint32]*Group
	gone    []Gone // in the order of their epochs
	floor   uint64 // deletions up to this epoch are forgotten
	lastID  uint32
	history []Entry
}

// Gone is a deleted group.
type Gone struct {
	ID    uint32 `json:"id"`
	Epoch uint64 `json:"epoch"`
}

// Entry is one line of the log.
type Entry struct {
	Version Version `json:"version"`
	What    string  `json:"what"`
}

// Change is one epoch: groups as they are after it, or a group that it deleted.
type Change struct {
	Version Version
	Groups  []*Group
	Deleted uint32 // 0: none; ids begin at 1
	What    string
}

// NewStore makes an empty store. It takes a term with its first change.
func NewStore() *Store { return &Store{groups: map[uint32]*Group{}} }

// Version is that of the last committed change.
func (s *Store) Version() Version { return s.version }

// Seen tells the store what a client has applied. A version this store never gave out fences it: somebody else
// leads, or this box's state was lost or taken from a backup.
func (s *Store) Seen(v Version) {
	if v.Compare(s.seen) > 0 {
		s.seen = v
	}
}

// Fenced says whether this store may neither change nor answer clients.
func (s *Store) Fenced() bool { return s.seen.Compare(s.version) > 0 }

// Leads says whether clients may follow this store.
func (s *Store) Leads() bool { return s.version.Term != 0 && !s.Fenced() }

// Promote takes over from whoever leads: a term above all that was seen. origin is random, never 0.
func (s *Store) Promote(origin uint32) Change {
	highest := max(s.seen.Term, s.version.Term)
	v := Version{Term: (highest>>32+1)<<32 | uint64(origin), Epoch: max(s.version.Epoch, s.seen.Epoch) + 1}
	return Change{Version: v, What: "this box leads"}
}

// begin is the start of every operation.
func (s *Store) begin() (Version, error) {
	if s.Fenced() {
		return Version{}, ErrFenced
	}
	return Version{Term: s.version.Term, Epoch: s.version.Epoch + 1}, nil
}

// Create makes a group without members.
func (s *Store) Create(name string, addresses []netip.Addr, policy Policy) (Change, error) {
	v, err := s.begin()
	if err != nil {
		return Change{}, err
	}
	if err := checkName("group", name); err != nil {
		return Change{}, err
	}
	if _, err := s.find(name); err == nil {
		return Change{}, fmt.Errorf("group %s exists", name)
	}
	if len(s.groups) >= MaxGroups {
		return Change{}, fmt.Errorf("%d groups: delete one first", MaxGroups)
	}
	if len(addresses) == 0 || len(addresses) > MaxAddresses {
		return Change{}, fmt.Errorf("group %s needs 1 to %d addresses", name, MaxAddresses)
	}
	if policy > Open {
		return Change{}, fmt.Errorf("policy %s is neither closed nor open", policy)
	}
	for i, a := range addresses {
		if err := checkAddress("the group's address", a); err != nil {
			return Change{}, err
		}
		if slices.Contains(addresses[:i], a) {
			return Change{}, fmt.Errorf("address %s is named twice", a)
		}
		for _, g := range s.groups {
			if slices.Contains(g.Addresses, a) {
				return Change{}, fmt.Errorf("address %s belongs to group %s", a, g.Name)
			}
		}
	}
	g := &Group{ID: s.lastID + 1, Name: name, Addresses: slices.Clone(addresses), Policy: policy, Changed: v.Epoch}
	return Change{Version: v, Groups: []*Group{g}, What: "create " + name}, nil
}

// Delete removes a group and all its members.
func (s *Store) Delete(name string) (Change, error) {
	v, err := s.begin()
	if err != nil {
		return Change{}, err
	}
	g, err := s.find(name)
	if err != nil {
		return Change{}, err
	}
	return Change{Version: v, Deleted: g.ID, What: "delete " + name}, nil
}

// Add makes a VNI a member; slot and generation are the store's to choose.
func (s *Store) Add(group string, m Member) (Change, error) {
	if m.Weight == 0 {
		m.Weight = 1
	}
	if err := checkMember(m); err != nil {
		return Change{}, err
	}
	return s.edit(group, "add "+m.Name+" to "+group, func(g *Group) error {
		if g.member(m.Name) >= 0 {
			return fmt.Errorf("group %s has a member %s", group, m.Name)
		}
		if slices.ContainsFunc(g.Members, func(o Member) bool { return o.VNI == m.VNI }) {
			return fmt.Errorf("vni %d is a member of group %s", m.VNI, group)
		}
		slot, ok := g.freeSlot()
		if !ok {
			return fmt.Errorf("group %s has %d members: remove one first", group, MaxMembers)
		}
		if m.State = Serving; !m.Underlay.IsValid() {
			m.State = Down // until its VNI is attached: Moved
		}
		m.Slot, m.Generation = slot, g.nextGeneration(slot)
		g.Members = slices.Insert(g.Members, int(slot), m)
		return nil
	})
}

// Remove ends a membership at once, with all its flows.
func (s *Store) Remove(group, member string) (Change, error) {
	return s.edit(group, "remove "+member+" from "+group, func(g *Group) error {
		i := g.member(member)
		if i < 0 {
			return fmt.Errorf("member %s of group %s: %w", member, group, ErrNotFound)
		}
		g.Members = slices.Delete(g.Members, i, i+1)
		return nil
	})
}

// Drain lets a member keep its flows and get no new ones, or ends that. It holds until it is ended, also for a member that
// is down, or goes down.
func (s *Store) Drain(group, member string, drain bool) (Change, error) {
	what, to, from := "drain ", Draining, Serving
	if !drain {
		what, to, from = "undrain ", Serving, Draining
	}
	return s.edit(group, what+member+" of "+group, func(g *Group) error {
		i := g.member(member)
		if i < 0 {
			return fmt.Errorf("member %s of group %s: %w", member, group, ErrNotFound)
		}
		m := &g.Members[i]
		switch {
		case m.State == from:
			m.State = to
		case m.State == Down && m.Drained != drain:
			m.Drained = drain
		case m.Drained:
			return fmt.Errorf("member %s of group %s is %s, and drained already", member, group, m.State)
		default:
			return fmt.Errorf("member %s of group %s is %s", member, group, m.State)
		}
		return nil
	})
}

// Moved says where the instance of a VNI is attached now, in every group at once. A member that was down is up
// again.
func (s *Store) Moved(vni uint32, to Location) (Change, error) {
	if err := checkLocation(to); err != nil {
		return Change{}, err
	}
	return s.each(vni, fmt.Sprintf("vni %d moved to %s", vni, to.Underlay), func(_ *Group, m *Member) bool {
		if m.Location == to && m.State != Down {
			return false
		}
		m.Location = to
		m.up()
		return true
	})
}

// SetDown takes a VNI out of use in every group, with all its flows, or back into it.
func (s *Store) SetDown(vni uint32, down bool) (Change, error) {
	if !down {
		return s.each(vni, fmt.Sprintf("vni %d is up", vni), func(_ *Group, m *Member) bool {
			if m.State != Down || !m.Underlay.IsValid() {
				return false
			}
			m.up()
			return true
		})
	}
	return s.each(vni, fmt.Sprintf("vni %d is down", vni), func(g *Group, m *Member) bool {
		if m.State == Down {
			return false
		}
		m.Drained = m.State == Draining
		m.State, m.Generation = Down, g.nextGeneration(m.Slot)
		return true
	})
}

// edit is a change of one group.
func (s *Store) edit(name, what string, f func(*Group) error) (Change, error) {
	v, err := s.begin()
	if err != nil {
		return Change{}, err
	}
	g, err := s.find(name)
	if err != nil {
		return Change{}, err
	}
	g = g.clone()
	if err := f(g); err != nil {
		return Change{}, err
	}
	g.Changed = v.Epoch
	return Change{Version: v, Groups: []*Group{g}, What: what}, nil
}

// each changes the members with this VNI. A change of nothing has no version.
func (s *Store) each(vni uint32, what string, f func(*Group, *Member) bool) (Change, error) {
	v, err := s.begin()
	if err != nil {
		return Change{}, err
	}
	c := Change{Version: v, What: what}
	for _, id := range s.ids() {
		i := slices.IndexFunc(s.groups[id].Members, func(m Member) bool { return m.VNI == vni })
		if i < 0 {
			continue
		}
		if g := s.groups[id].clone(); f(g, &g.Members[i]) {
			g.Changed = v.Epoch
			c.Groups = append(c.Groups, g)
		}
	}
	if len(c.Groups) == 0 {
		return Change{}, nil
	}
	return c, nil
}

// Commit makes a change true. A store without a term must be promoted first.
func (s *Store) Commit(c Change) {
	s.version = c.Version
	for _, g := range c.Groups {
		s.groups[g.ID] = g
		s.lastID = max(s.lastID, g.ID)
	}
	if c.Deleted != 0 {
		delete(s.groups, c.Deleted)
		s.gone = append(s.gone, Gone{ID: c.Deleted, Epoch: c.Version.Epoch})
		if len(s.gone) > maxGone {
			s.floor, s.gone = s.gone[0].Epoch, slices.Delete(s.gone, 0, 1)
		}
	}
	if len(s.history) == maxHistory {
		s.history = slices.Delete(s.history, 0, 1)
	}
	s.history = append(s.history, Entry{Version: c.Version, What: c.What})
}

// Groups lists the groups by name. They are not to be written.
func (s *Store) Groups() []*Group {
	return slices.SortedFunc(maps.Values(s.groups), func(a, b *Group) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// History lists the latest changes, oldest first, since the process began.
func (s *Store) History() []Entry { return slices.Clone(s.history) }

// has says whether any group has this VNI as a member.
func (s *Store) has(vni uint32) bool {
	for _, g := range s.groups {
		if slices.ContainsFunc(g.Members, func(m Member) bool { return m.VNI == vni }) {
			return true
		}
	}
	return false
}

func (s *Store) find(name string) (*Group, error) {
	for _, g := range s.groups {
		if g.Name == name {
			return g, nil
		}
	}
	return nil, fmt.Errorf("group %s: %w", name, ErrNotFound)
}

func (s *Store) ids() []uint32 { return slices.Sorted(maps.Keys(s.groups)) }
