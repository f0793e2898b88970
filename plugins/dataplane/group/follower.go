package group

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// ErrOlder is an answer of a control plane that has been overtaken.
var ErrOlder = errors.New("control plane is older than one this host has followed")

// Follower is a client's picture of the groups. It follows the highest term it has seen and never goes back: with
// two control planes at work, everything it shows is of one of them. Pure; stepped by its owner.
type Follower struct {
	applied Version // what the program has, as Done said last
	version Version // of the last finished walk
	highest uint64  // term
	groups  map[uint32]*Group

	walk    uint64 // the term whose log cursor is a place in
	cursor  Cursor
	known   uint64            // epoch: of every deletion up to it
	pending map[uint32]*Group // what a full walk has gathered; nil in a delta
}

// NewFollower begins at what the host has applied before: an overtaken control plane cannot lead it back.
func NewFollower(applied Version) *Follower {
	return &Follower{applied: applied, highest: applied.Term, groups: map[uint32]*Group{}}
}

// Version is that of the last finished walk; a part of it may still have to be programmed.
func (f *Follower) Version() Version { return f.version }

// Done says that everything up to Version is programmed. Only then is it acknowledged.
func (f *Follower) Done() { f.applied = f.version }

// Applied is what the program has, and what is to be confirmed.
func (f *Follower) Applied() Version {
	if f.applied.Term < f.highest {
		return Version{Term: f.highest} // fences who is older, although nothing of the newer is applied yet
	}
	return f.applied
}

// Request is what to ask next.
func (f *Follower) Request() Request {
	return Request{Have: f.Applied(), Walk: f.walk, Cursor: f.cursor, Known: f.known}
}

// Step takes an answer to a Request and lists which groups are to be programmed anew and which to be taken out. A
// group is in the answer as a whole: there is nothing between its old state and the new one.
func (f *Follower) Step(asked Request, u Update) (changed []*Group, removed []uint32, err error) {
	if u.Version.Term < f.highest || u.Version.Compare(f.applied) < 0 || u.Version.Compare(f.version) < 0 {
		return nil, nil, fmt.Errorf("version %s after %s: %w", u.Version, f.Applied(), ErrOlder)
	}
	if asked.Walk != f.walk || asked.Cursor != f.cursor || asked.Known != f.known {
		return nil, nil, nil // an answer to a walk that was given up: asked of the other control plane meanwhile
	}
	f.highest = u.Version.Term
	if u.Full {
		f.pending = map[uint32]*Group{}
	} else if u.Version.Term != f.walk {
		return nil, nil, fmt.Errorf("a part of term %d's log without its beginning: %w", u.Version.Term>>32, errCodec)
	}
	f.walk, f.cursor, f.known = u.Version.Term, u.Cursor, u.Version.Epoch
	for _, g := range u.Groups {
		if old := f.groups[g.ID]; old == nil || f.version.Term != u.Version.Term || old.Changed != g.Changed {
			changed = append(changed, g)
		}
		f.groups[g.ID] = g
		if f.pending != nil {
			f.pending[g.ID] = g
		}
	}
	for _, d := range u.Gone {
		if f.groups[d.ID] != nil {
			removed = append(removed, d.ID)
		}
		delete(f.groups, d.ID)
		delete(f.pending, d.ID)
	}
	if u.More {
		return changed, removed, nil
	}
	if f.pending != nil {
		for _, id := range slices.Sorted(maps.Keys(f.groups)) {
			if f.pending[id] == nil {
				removed = append(removed, id)
			}
		}
		f.groups, f.pending = f.pending, nil
	}
	f.version = u.Version
	return changed, removed, nil
}

// Groups lists all groups by id.
func (f *Follower) Groups() []*Group {
	var all []*Group
	for _, id := range slices.Sorted(maps.Keys(f.groups)) {
		all = append(all, f.groups[id])
	}
	return all
}

// Addresses lists whose traffic is this host's to spread.
func (f *Follower) Addresses() []netip.Addr {
	var all []netip.Addr
	for _, g := range f.Groups() {
		all = append(all, g.Addresses...)
	}
	return all
}
