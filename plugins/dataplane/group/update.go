package group

import (
	"cmp"
	"slices"
)

// A Cursor is a place in the compacted log: everything up to it is known. Many groups may change in one epoch, so it
// names a group too.
type Cursor struct {
	Epoch uint64
	ID    uint32
}

func (c Cursor) compare(d Cursor) int {
	return cmp.Or(cmp.Compare(c.Epoch, d.Epoch), cmp.Compare(c.ID, d.ID))
}

// Request is what a client asks: its version, and how far it has come in a walk that takes several answers.
type Request struct {
	Have Version // applied
	// Walk is the term whose log the cursor is a place in; 0 begins anew.
	Walk   uint64
	Cursor Cursor
	// Known is the epoch up to which the client has heard of every deletion.
	Known uint64
	// WaitMillis is for how long the client would wait for news.
	WaitMillis uint32
}

// Update is one answer, of bounded size whatever has changed: a page of the compacted log in its order.
type Update struct {
	Version Version // of the store
	// Full: the walk began at nothing. What its pages do not hold is gone.
	Full bool
	// More: ask again from Cursor. Have moves to Version with the page that is not followed by More.
	More   bool
	Cursor Cursor
	Groups []*Group
	Gone   []Gone
}

// maxPage is about how many bytes of records an update holds; one group always fits.
const maxPage = 256 << 10

// News says whether a client that asks has anything to learn.
func (s *Store) News(r Request) bool { return r.Have != s.version || r.Walk != s.version.Term }

// Since answers a request. Only a store that leads is asked.
func (s *Store) Since(r Request) Update {
	u := Update{Version: s.version}
	from := r.Cursor
	if r.Walk != s.version.Term || from.Epoch > s.version.Epoch || r.Known < s.floor {
		from = Cursor{}
	}
	u.Full = from == (Cursor{})
	for _, g := range s.groups {
		if from.compare(Cursor{g.Changed, g.ID}) < 0 {
			u.Groups = append(u.Groups, g)
		}
	}
	slices.SortFunc(u.Groups, func(a, b *Group) int {
		return Cursor{a.Changed, a.ID}.compare(Cursor{b.Changed, b.ID})
	})
	size := 0
	for i, g := range u.Groups {
		if size += groupSize(g); size > maxPage && i > 0 {
			u.Groups, u.More = u.Groups[:i], true
			break
		}
	}
	u.Cursor = Cursor{Epoch: s.version.Epoch, ID: ^uint32(0)}
	if u.More {
		last := u.Groups[len(u.Groups)-1]
		u.Cursor = Cursor{last.Changed, last.ID}
	}
	for _, d := range s.gone { // maxGone of them are fewer bytes than one page
		if d.Epoch > r.Known && !u.Full {
			u.Gone = append(u.Gone, d)
		}
	}
	return u
}
