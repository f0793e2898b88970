package slot

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

const (
	guidA   = "11111111-2222-3333-4444-55555555aaaa"
	guidB   = "11111111-2222-3333-4444-55555555bbbb"
	foreign = "99999999-2222-3333-4444-555555555555"
)

var slots = Slots{
	"A": {GUID: guidA, Number: 1, Start: 2048, Size: 196608},
	"B": {GUID: guidB, Number: 2, Start: 198656, Size: 196608},
}

// memory is the variables of a machine.
type memory struct {
	values map[string][]byte
	room   int // bytes; 0 for as much as wanted
	// unreadable is one that Get fails on.
	unreadable string
	writes     int
}

var _ Variables = (*memory)(nil)

var (
	errFull   = errors.New("no room")
	errDevice = errors.New("device error")
)

func (m *memory) Get(name, vendor string) ([]byte, error) {
	if m.unreadable != "" && name+"-"+vendor == m.unreadable {
		return nil, errDevice
	}
	b, ok := m.values[name+"-"+vendor]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return bytes.Clone(b), nil
}

func (m *memory) Set(name, vendor string, value []byte) error {
	if m.room > 0 && len(value) > m.room {
		return errFull
	}
	m.writes++
	m.values[name+"-"+vendor] = bytes.Clone(value)
	return nil
}

func (m *memory) Delete(name, vendor string) error {
	delete(m.values, name+"-"+vendor)
	return nil
}

func (m *memory) Names(vendor string) ([]string, error) {
	var out []string
	for k := range m.values {
		if name, ok := strings.CutSuffix(k, "-"+vendor); ok {
			out = append(out, name)
		}
	}
	return out, nil
}

// machine plays firmware: which slot a power-on starts, and what of it works.
type machine struct {
	t *testing.T
	*memory
	f           Firmware
	broken      map[string]bool // slots that never get to be healthy
	ignoresNext bool
}

func newMachine(t *testing.T) *machine {
	m := &memory{values: map[string][]byte{}}
	return &machine{t: t, memory: m, f: Firmware{m}, broken: map[string]bool{}}
}

// choose is the firmware's boot manager.
func (m *machine) choose() string {
	e, err := m.f.Entries()
	if err != nil {
		m.t.Fatal(err)
	}
	next, err := m.f.Trying(slots)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.f.Forget(); err != nil { // used once, or ignored
		m.t.Fatal(err)
	}
	if next != "" && !m.ignoresNext {
		return next
	}
	if front := e.Front(slots); front != "" {
		return front
	}
	return "A" // the first partition with the removable media path
}

// power switches the machine on until it is healthy, stops in the console, or has started too often.
func (m *machine) power(bad map[string]bool) string {
	var b strings.Builder
	for range 12 {
		name := m.choose()
		count, step, err := m.f.Begin(slots[name].GUID)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
		}
		switch step {
		case Switch:
			fmt.Fprintf(&b, "%s: boot %d, switch\n", name, count)
			continue
		case Recover:
			fmt.Fprintf(&b, "%s: boot %d, recovery console\n", name, count)
			return b.String()
		}
		repaired, err := m.f.Repair(slots, name, bad)
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
		}
		note := ""
		if repaired {
			note = ", entries repaired"
		}
		if m.broken[name] {
			fmt.Fprintf(&b, "%s: boot %d%s, dies\n", name, count, note)
			continue
		}
		if err := m.f.Commit(slots, name, bad); err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
		}
		fmt.Fprintf(&b, "%s: boot %d%s, healthy\n", name, count, note)
		return b.String()
	}
	m.t.Errorf("an endless loop:\n%s", b.String())
	return b.String() + "endless\n"
}

func (m *machine) String() string {
	e, err := m.f.Entries()
	if err != nil {
		m.t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "order")
	for _, n := range e.Order {
		fmt.Fprintf(&b, " %04X", n)
	}
	fmt.Fprintln(&b)
	for _, n := range slices.Sorted(maps.Keys(e.Taken)) {
		o, ok := e.Options[n]
		switch {
		case !ok:
			fmt.Fprintf(&b, "%04X not ours\n", n)
		case !o.Active:
			fmt.Fprintf(&b, "%04X %s …%s, not active\n", n, o.Description, o.Place.GUID[32:])
		default:
			fmt.Fprintf(&b, "%04X %s …%s\n", n, o.Description, o.Place.GUID[32:])
		}
	}
	return b.String()
}

func (m *machine) set(name, vendor string, value []byte) {
	if err := m.Set(name, vendor, value); err != nil {
		m.t.Fatal(err)
	}
}

// option puts an entry there: "option 0003 Ratchet_A a [inactive]".
func (m *machine) option(word []string) {
	guid := map[string]string{"a": guidA, "b": guidB, "foreign": foreign}[word[3]]
	place := Place{GUID: guid, Number: 7, Start: 1, Size: 2}
	for _, p := range slots {
		if p.GUID == guid {
			place = p
		}
	}
	o := Option{Active: len(word) < 5, Description: strings.ReplaceAll(word[2], "_", " "), Place: place, Path: File}
	b, err := o.Encode()
	if err != nil {
		m.t.Fatal(err)
	}
	m.set("Boot"+word[1], VendorGlobal, b)
}

func (m *machine) change(line string, bad map[string]bool) {
	word := strings.Fields(line)
	switch word[0] {
	case "option":
		m.option(word)
	case "raw": // "raw 0007 00112233"
		m.set("Boot"+word[1], VendorGlobal, []byte(word[2]))
	case "order":
		var b []byte
		for _, w := range word[1:] {
			n, err := strconv.ParseUint(w, 16, 16)
			if err != nil {
				m.t.Fatal(err)
			}
			b = append(b, byte(n), byte(n>>8))
		}
		m.set(bootOrder, VendorGlobal, b)
	case "broken":
		m.broken = map[string]bool{}
		for _, w := range word[1:] {
			m.broken[w] = true
		}
	case "bad":
		for _, w := range word[1:] {
			bad[w] = true
		}
	case "try":
		if err := m.f.Try(slots, word[1]); err != nil {
			m.t.Fatal(err)
		}
	case "erase":
		clear(m.values)
	case "ignores-next":
		m.ignoresNext = true
	case "full":
		m.room = 1
	case "no-room-for-entries": // but for the count
		m.room = 2
	case "unreadable": // a variable that the firmware lists and does not give
		m.unreadable = "Boot" + word[1] + "-" + VendorGlobal
		m.values[m.unreadable] = nil
	case "count":
		if err := m.f.SetCount(0); err != nil {
			m.t.Fatal(err)
		}
	default:
		m.t.Fatalf("unknown line %q", line)
	}
}

// TestSlots plays machines: each "box" is a new one, "power" goes on with it.
func TestSlots(t *testing.T) {
	datadriven.RunTest(t, "testdata/slots.txt", func() func(*testing.T, *datadriven.TestData) string {
		var m *machine
		return func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "box" || m == nil {
				m = newMachine(t)
			}
			m.t = t
			bad := map[string]bool{}
			for line := range strings.Lines(d.Input) {
				if strings.TrimSpace(line) != "" {
					m.change(line, bad)
				}
			}
			switch d.Cmd {
			case "box", "power":
				return m.power(bad) + m.String()
			case "repair":
				if _, err := m.f.Repair(slots, "A", bad); err != nil {
					return err.Error() + "\n" + m.String()
				}
				return m.String()
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		}
	}())
}

// TestQuietBootWritesTwice: a board's flash wears out; the count goes up and back, nothing else.
func TestQuietBootWritesTwice(t *testing.T) {
	m := newMachine(t)
	m.power(nil)
	m.writes = 0
	m.power(nil)
	if m.writes != 2 {
		t.Errorf("%d variables written, want the count twice", m.writes)
	}
}

// TestNoFirmware: on a machine without UEFI everything is done and nothing is said.
func TestNoFirmware(t *testing.T) {
	var f Firmware
	count, step, err := f.Begin("")
	_, repair := f.Repair(slots, "A", nil)
	if err := errors.Join(err, repair, f.Try(slots, "B"), f.Commit(slots, "A", nil), f.SetCount(0), f.Forget()); err != nil || count != 0 || step != Continue {
		t.Errorf("%d %d %v", count, step, err)
	}
}
