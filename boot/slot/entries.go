package slot

import (
	"maps"
	"slices"
	"strings"
)

const (
	// File is what a slot starts; the path by which firmware finds it without any entry too.
	File = `\EFI\BOOT\BOOTX64.EFI`
	// describes our entries to people in the firmware's menu.
	describes = "Ratchet "
	// firstEntry is where numbers for new entries are looked for: firmware makes its own from 0 up.
	firstEntry = 0x00A0
)

// Names are the slots.
var Names = [2]string{"A", "B"}

// Other is the slot beside name.
func Other(name string) string {
	if name == Names[0] {
		return Names[1]
	}
	return Names[0]
}

// Entries are what firmware holds.
type Entries struct {
	Order []uint16
	// Options are the entries that could be read and are files on GPT partitions, by number.
	Options map[uint16]Option
	// Taken are the numbers of all entries.
	Taken map[uint16]bool
}

// Slots says where the slots of the boot disk are, by name.
type Slots map[string]Place

// Change is what is to be written; nil and empty are for what stays.
type Change struct {
	Write  map[uint16]Option
	Delete []uint16
	Order  []uint16
}

// Empty says that everything is as it should be.
func (c Change) Empty() bool { return len(c.Write) == 0 && len(c.Delete) == 0 && c.Order == nil }

func entry(name string, p Place) Option {
	return Option{Active: true, Description: describes + name, Place: p, Path: File}
}

// Find gives the number of a slot's entry.
func (e Entries) Find(p Place) (uint16, bool) {
	for _, n := range slices.Sorted(maps.Keys(e.Options)) {
		if o := e.Options[n]; o.Active && o.Place == p && strings.EqualFold(o.Path, File) {
			return n, true
		}
	}
	return 0, false
}

// Front is the first entry of ours in the order, and which slot it is, "" for none.
func (e Entries) Front(s Slots) string {
	for _, n := range e.Order {
		for _, name := range Names {
			if p, ok := s[name]; ok && e.Options[n].Place == p {
				return name
			}
		}
	}
	return ""
}

// Repair says what is missing: an entry for each slot, and an order that starts with the slots. Slots that are in the
// order keep their places among each other, so the one that was healthy last stays first; running, the slot that this
// boot came from, goes first when none is there. A bad slot is in no order, but never the running one's.
func (e Entries) Repair(s Slots, running string, bad map[string]bool) Change {
	front := e.Front(s)
	if front == "" {
		front = running
	}
	if front == "" || bad[front] && front != running {
		front = Other(front)
	}
	return e.Prefer(s, front, running, bad)
}

// Prefer is Repair with a given slot in front.
func (e Entries) Prefer(s Slots, first, running string, bad map[string]bool) Change {
	c := Change{Write: map[uint16]Option{}}
	taken := maps.Clone(e.Taken)
	if taken == nil {
		taken = map[uint16]bool{}
	}
	ours := map[uint16]bool{}
	var order []uint16
	for _, name := range []string{first, Other(first)} {
		p, ok := s[name]
		if !ok {
			continue
		}
		n, found := e.Find(p)
		if !found {
			n = free(taken)
			c.Write[n] = entry(name, p)
			taken[n] = true
		}
		ours[n] = true
		if !bad[name] || name == running {
			order = append(order, n)
		}
	}
	for _, n := range slices.Sorted(maps.Keys(e.Options)) {
		// Ours of another disk, or a second one of the same slot: nobody needs it.
		if !ours[n] && strings.HasPrefix(e.Options[n].Description, describes) {
			c.Delete = append(c.Delete, n)
			ours[n] = true
		}
	}
	for _, n := range e.Order {
		if !ours[n] && !slices.Contains(order, n) {
			order = append(order, n)
		}
	}
	if !slices.Equal(order, e.Order) {
		c.Order = order
	}
	return c
}

// first says whether the first entry of ours in the order is for the partition running.
func (e Entries) first(running string) bool {
	for _, n := range e.Order {
		if o, known := e.Options[n]; known && o.Active && strings.HasPrefix(o.Description, describes) {
			return strings.EqualFold(o.Place.GUID, running)
		}
	}
	return false
}

// Alternative finds an entry of ours in the order for another partition than the running one: early in a boot, when
// no disk is there yet to say where the slots are.
func (e Entries) Alternative(running string) (n uint16, ok bool) {
	for _, n := range e.Order {
		o, known := e.Options[n]
		if known && o.Active && strings.HasPrefix(o.Description, describes) && !strings.EqualFold(o.Place.GUID, running) {
			return n, true
		}
	}
	return 0, false
}

// free finds a number for a new entry.
func free(taken map[uint16]bool) uint16 {
	for n := uint16(firstEntry); n != firstEntry-1; n++ {
		if !taken[n] {
			return n
		}
	}
	return firstEntry // 65,536 entries: no firmware has room for them
}
