package group

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var addresses = cmpopts.EquateComparable(netip.Addr{})

func someUpdate() Update {
	g := web(3)
	g.Members[1].State, g.Members[2].State = Draining, Down
	g.Members[2].Location = Location{}
	g.Members[0].Underlay = netip.MustParseAddr("2001:db8::1")
	return Update{
		Version: Version{7<<32 | 5, 99}, Full: true, More: true, Cursor: Cursor{9, 1},
		Groups: []*Group{g, {ID: 2, Name: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Policy: Open, Changed: 9}},
		Gone:   []Gone{{3, 4}, {4, 5}},
	}
}

func TestCodec(t *testing.T) {
	u := someUpdate()
	got, err := ParseUpdate(u.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(u, got, addresses); diff != "" {
		t.Error(diff)
	}
	for _, g := range u.Groups {
		if n := len(g.append(nil)); n != groupSize(g) {
			t.Errorf("group of %d bytes was reckoned with %d", n, groupSize(g))
		}
	}
	r := Request{Have: Version{1, 2}, Walk: 3, Cursor: Cursor{4, 5}, Known: 7, WaitMillis: 6}
	if got, err := ParseRequest(r.Append(nil)); err != nil || got != r {
		t.Errorf("%+v, %v, want %+v", got, err, r)
	}
	w := Word{Current: Version{1, 2}, Lease: 3 * time.Second}
	if got, err := ParseWord(w.Append(nil)); err != nil || got != w {
		t.Errorf("%+v, %v, want %+v", got, err, w)
	}
	a := Ack{Applied: Version{1, 2}, Outcomes: Outcomes{0: 5, outcomeCount - 1: 6}}
	if got, err := ParseAck(a.Append(nil)); err != nil || got != a {
		t.Errorf("%+v, %v, want %+v", got, err, a)
	}
}

// TestCodecRefuses: nothing short, long or impossible gets in.
func TestCodecRefuses(t *testing.T) {
	good := someUpdate().Append(nil)
	for n := range good {
		if _, err := ParseUpdate(good[:n]); err == nil {
			t.Fatalf("%d of %d bytes were accepted", n, len(good))
		}
	}
	if _, err := ParseUpdate(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte too many was accepted")
	}
	for name, spoil := range map[string]func(*Update){
		"two owners of a slot":      func(u *Update) { u.Groups[0].Members[1].Slot = 0 },
		"a slot beyond the table":   func(u *Update) { u.Groups[0].Members[2].Slot = MaxMembers },
		"a member without a host":   func(u *Update) { u.Groups[0].Members[2].State = Serving },
		"no weight":                 func(u *Update) { u.Groups[0].Members[0].Weight = 0 },
		"no VNI":                    func(u *Update) { u.Groups[0].Members[0].VNI = 0 },
		"an unknown state":          func(u *Update) { u.Groups[0].Members[0].State = 9 },
		"an unknown policy":         func(u *Update) { u.Groups[0].Policy = 9 },
		"no address":                func(u *Update) { u.Groups[0].Addresses = nil },
		"a multicast address":       func(u *Update) { u.Groups[0].Addresses[0] = netip.MustParseAddr("224.0.0.1") },
		"an address of many hosts":  func(u *Update) { u.Groups[0].Members[0].MAC[0] = 1 },
		"a name that is none":       func(u *Update) { u.Groups[0].Name = "../x" },
		"a member's name is none":   func(u *Update) { u.Groups[0].Members[0].Name = "" },
		"the number that is nobody": func(u *Update) { u.Groups[0].ID = 0 },
	} {
		u := someUpdate()
		spoil(&u)
		if _, err := ParseUpdate(u.Append(nil)); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(someUpdate().Append(nil))
	f.Add(Update{}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := ParseUpdate(b)
		if err != nil {
			return
		}
		if again := u.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("% x was read as % x", b, again)
		}
		// What was accepted can be followed.
		fo := NewFollower(Version{})
		if _, _, err := fo.Step(fo.Request(), u); err == nil && u.Full && !u.More && fo.Version() != u.Version {
			t.Fatalf("followed to %v, not to %v", fo.Version(), u.Version)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add(Request{Have: Version{1, 2}, Walk: 3, Cursor: Cursor{4, 5}, Known: 7, WaitMillis: 6}.Append(nil))
	s := NewStore()
	s.Commit(s.Promote(1))
	for i := range 3 {
		c, err := s.Create(fmt.Sprintf("g%d", i), []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}, Closed)
		if err != nil {
			f.Fatal(err)
		}
		s.Commit(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		if again := r.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("% x was read as % x", b, again)
		}
		if _, err := ParseUpdate(s.Since(r).Append(nil)); err != nil { // any request has a proper answer
			t.Fatal(err)
		}
	})
}

// TestWalk: many groups come in several answers of bounded size, in any order of changes between them, and a client
// that is too far behind to be told of deletions gets everything anew.
func TestWalk(t *testing.T) {
	s := NewStore()
	commit := func(c Change, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s.Commit(c)
	}
	commit(s.Promote(1), nil)
	name := func(i int) string { return fmt.Sprintf("g%d", i) }
	create := func(i int) {
		commit(s.Create(name(i), []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}, Closed))
	}
	for i := 1; i <= 100; i++ {
		create(i)
		for j := range 130 {
			commit(s.Add(name(i), Member{Name: fmt.Sprintf("m%d", j), VNI: uint32(1000*i + j), Location: Location{Underlay: netip.MustParseAddr("192.0.2.1"), MAC: [6]byte{2}}}))
		}
	}
	f := NewFollower(Version{})
	pages := 0
	for more := true; more; pages++ {
		r := f.Request()
		u := s.Since(r)
		if n := len(u.Append(nil)); n > maxPage+16<<10 {
			t.Fatalf("an answer of %d bytes", n)
		}
		if _, _, err := f.Step(r, u); err != nil {
			t.Fatal(err)
		}
		more = u.More
		if pages == 1 { // between two answers: something known, something not yet known, something deleted
			commit(s.Drain(name(1), "m0", true))
			commit(s.Drain(name(99), "m0", true))
			commit(s.Delete(name(2)))
			commit(s.Delete(name(98)))
		}
	}
	if pages < 3 {
		t.Errorf("%d answers for 100 groups", pages)
	}
	same := func() {
		t.Helper()
		want := s.Groups()
		got := f.Groups()
		if len(got) != len(want) || f.Version() != s.Version() {
			t.Fatalf("%d groups at %s, want %d at %s", len(got), f.Version(), len(want), s.Version())
		}
		for _, g := range want {
			if f.groups[g.ID] != g {
				t.Errorf("group %s differs", g.Name)
			}
		}
	}
	same()

	old := *f
	for i := range maxGone + 10 {
		create(1000 + i)
		commit(s.Delete(name(1000 + i)))
	}
	r := f.Request()
	if u := s.Since(r); !u.Full {
		t.Error("who has missed forgotten deletions was given a part")
	}
	for more := true; more; {
		r := f.Request()
		u := s.Since(r)
		if _, _, err := f.Step(r, u); err != nil {
			t.Fatal(err)
		}
		more = u.More
	}
	same()

	// An answer to an older question, or of an older term, changes nothing.
	if changed, removed, err := f.Step(old.Request(), s.Since(old.Request())); changed != nil || removed != nil || err != nil {
		t.Errorf("an answer to a question long past: %d changed, %d removed, %v", len(changed), len(removed), err)
	}
	older := s.Since(f.Request())
	older.Version.Term = 1
	if _, _, err := f.Step(f.Request(), older); err == nil {
		t.Error("an older term was followed")
	}
	same()
}

func TestSpread(t *testing.T) {
	many := members(100)
	for i := range many {
		many[i].Weight = uint16(1 + i%5)
	}
	for name, ms := range map[string][]Member{"one": members(1), "three": members(3), "256": members(256), "unequal": many} {
		t.Run(name, func(t *testing.T) {
			total, got := 0, map[uint16]int{}
			for _, m := range ms {
				total += int(m.Weight)
			}
			for _, slot := range Spread(ms) {
				got[slot]++
			}
			for _, m := range ms {
				ideal := float64(RingSize) * float64(m.Weight) / float64(total)
				if d := float64(got[m.Slot]) - ideal; d > 5 || d < -5 {
					t.Errorf("member %d has %d places, ideal are %.1f", m.Slot, got[m.Slot], ideal)
				}
			}
		})
	}
	if ring := Spread(nil); ring[0] != noMember || ring[RingSize-1] != noMember {
		t.Error("a place of nobody is somebody's")
	}
	// A member that goes takes few others' places with it.
	before := Spread(members(50))
	without := members(50)
	without[7].State = Down
	moved := 0
	for i, slot := range Spread(without) {
		if before[i] != 7 && before[i] != slot {
			moved++
		}
	}
	if moved > RingSize/10 {
		t.Errorf("%d of %d places of others moved", moved, RingSize)
	}
}
