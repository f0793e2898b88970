package slot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
)

// Vendors of the variables used here.
const (
	VendorGlobal = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
	// VendorRatchet is of our own variables. Anybody who can boot the machine can write them.
	VendorRatchet = "1aeb42b7-7695-4871-8aaf-5d906df7658b"
)

const (
	bootOrder = "BootOrder"
	bootNext  = "BootNext"
	bootCount = "RatchetBootCount"
	// bootPartition is where the stub leaves the GUID of the partition that it was started from.
	bootPartition = "LoaderDevicePartUUID"
	vendorLoader  = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
	maxOrder      = 1024 // entries that are looked at
)

// Variables are the firmware's. Get of one that is not there is fs.ErrNotExist, Delete of it is not an error.
type Variables interface {
	Get(name, vendor string) ([]byte, error)
	Set(name, vendor string, value []byte) error
	Delete(name, vendor string) error
	// Names lists the variables of a vendor.
	Names(vendor string) ([]string, error)
}

// Firmware is the boot manager of a machine. A nil Variables is a machine without UEFI: then there is one way to boot
// and nothing to choose, and every method does nothing.
type Firmware struct{ Variables Variables }

// There says whether there is a boot manager.
func (f Firmware) There() bool { return f.Variables != nil }

// Entries reads boot entries and order. An entry that cannot be read only keeps its number taken.
func (f Firmware) Entries() (Entries, error) {
	e := Entries{Options: map[uint16]Option{}, Taken: map[uint16]bool{}}
	if !f.There() {
		return e, nil
	}
	order, err := f.get(bootOrder, VendorGlobal)
	if err != nil {
		return e, err
	}
	for ; len(order) >= 2 && len(e.Order) < maxOrder; order = order[2:] {
		e.Order = append(e.Order, binary.LittleEndian.Uint16(order))
	}
	names, err := f.Variables.Names(VendorGlobal)
	if err != nil {
		return e, fmt.Errorf("list boot entries: %w", err)
	}
	for _, name := range names {
		n, ok := entryNumber(name)
		if !ok {
			continue
		}
		e.Taken[n] = true
		// One that was never written to its end, for want of room, is in the list and has no value.
		value, err := f.get(name, VendorGlobal)
		if err != nil {
			continue
		}
		if o, err := ParseOption(value); err == nil {
			e.Options[n] = o
		}
	}
	return e, nil
}

// Apply writes a change: entries before the order that names them, and what nothing names any more last.
func (f Firmware) Apply(c Change) error {
	if !f.There() || c.Empty() {
		return nil
	}
	for _, n := range slices.Sorted(maps.Keys(c.Write)) {
		b, err := c.Write[n].Encode()
		if err != nil {
			return fmt.Errorf("make boot entry %04X: %w", n, err)
		}
		if err := f.Variables.Set(entryName(n), VendorGlobal, b); err != nil {
			return err
		}
	}
	if c.Order != nil {
		if err := f.setOrder(c.Order); err != nil {
			return err
		}
	}
	var errs []error
	for _, n := range c.Delete {
		errs = append(errs, f.Variables.Delete(entryName(n), VendorGlobal))
	}
	return errors.Join(errs...)
}

func (f Firmware) setOrder(order []uint16) error {
	var b []byte
	for _, n := range order {
		b = binary.LittleEndian.AppendUint16(b, n)
	}
	return f.Variables.Set(bootOrder, VendorGlobal, b)
}

// Repair makes both slots bootable; see Entries.Repair. It says whether it had to.
func (f Firmware) Repair(s Slots, running string, bad map[string]bool) (bool, error) {
	e, err := f.Entries()
	if err != nil || !f.There() {
		return false, err
	}
	c := e.Repair(s, running, bad)
	if err := f.Apply(c); err != nil {
		return false, fmt.Errorf("repair boot entries: %w", err)
	}
	return !c.Empty(), nil
}

// Front is the slot that boots when nothing else is asked for, "" when that is not one of ours.
func (f Firmware) Front(s Slots) (string, error) {
	e, err := f.Entries()
	return e.Front(s), err
}

// Try makes the firmware start a slot once, at the next boot.
func (f Firmware) Try(s Slots, name string) error {
	if !f.There() {
		return nil
	}
	e, err := f.Entries()
	if err != nil {
		return err
	}
	n, ok := e.Find(s[name])
	if !ok {
		return fmt.Errorf("slot %s has no boot entry; reboot, which repairs them", name)
	}
	c, err := f.counted()
	if err != nil {
		return err
	}
	c.trial = true
	if err := f.keep(c); err != nil {
		return err
	}
	return f.Variables.Set(bootNext, VendorGlobal, binary.LittleEndian.AppendUint16(nil, n))
}

// Trying is the slot that BootNext names, "" for none.
func (f Firmware) Trying(s Slots) (string, error) {
	if !f.There() {
		return "", nil
	}
	b, err := f.get(bootNext, VendorGlobal)
	if err != nil || len(b) != 2 {
		return "", err
	}
	e, err := f.Entries()
	if err != nil {
		return "", err
	}
	e.Order = []uint16{binary.LittleEndian.Uint16(b)}
	return e.Front(s), nil
}

// OnTrial says whether this boot came from another of our partitions than the one that is first in the order. It needs
// no disk, so that an isolated box can ask too.
func (f Firmware) OnTrial() (bool, error) {
	if !f.There() {
		return false, nil
	}
	b, err := f.get(bootPartition, vendorLoader)
	if err != nil {
		return false, err
	}
	running, _, ok := text16(b)
	if !ok || running == "" {
		return false, nil
	}
	e, err := f.Entries()
	if err != nil {
		return false, err
	}
	_, other := e.Alternative(running)
	return other && !e.first(running), nil
}

// Forget takes BootNext back.
func (f Firmware) Forget() error {
	if !f.There() {
		return nil
	}
	return f.Variables.Delete(bootNext, VendorGlobal)
}

// Commit makes a healthy slot the first one and ends the count, each whether or not the firmware has room for the other.
func (f Firmware) Commit(s Slots, running string, bad map[string]bool) error {
	if !f.There() {
		return nil
	}
	e, err := f.Entries()
	if err == nil {
		err = f.Apply(e.Prefer(s, running, running, bad))
	}
	if err != nil {
		err = fmt.Errorf("put slot %s first: %w", running, err)
	}
	return errors.Join(err, f.SetCount(0))
}

// count is the variable RatchetBootCount: boots since the last healthy one, and whether a trial is to come.
type count struct {
	boots uint8
	trial bool
}

// counted reads the count. A variable of another form counts as none.
func (f Firmware) counted() (count, error) {
	if !f.There() {
		return count{}, nil
	}
	b, err := f.get(bootCount, VendorRatchet)
	if err != nil || len(b) != 2 {
		return count{}, err
	}
	return count{b[0], b[1] != 0}, nil
}

// keep writes the count when it differs.
func (f Firmware) keep(c count) error {
	was, err := f.counted()
	if err != nil || !f.There() || was == c {
		return err
	}
	b := []byte{c.boots, 0}
	if c.trial {
		b[1] = 1
	}
	return f.Variables.Set(bootCount, VendorRatchet, b)
}

// Count is the number of boots since the last healthy one.
func (f Firmware) Count() (uint8, error) {
	c, err := f.counted()
	return c.boots, err
}

// SetCount writes the count when it differs; a trial that is to come stays one.
func (f Firmware) SetCount(n uint8) error {
	c, err := f.counted()
	if err != nil {
		return err
	}
	c.boots = n
	return f.keep(c)
}

// Begin counts this boot and says what to do because of the boots before it. running is the unique GUID of the
// partition that it came from. With Switch the other slot is already next: the caller restarts.
//
// The one boot that Try asked for is not counted: when it fails, the slot that was healthy boots, and must not be left
// for the one that has just failed because the power went once more.
func (f Firmware) Begin(running string) (boots uint8, step Step, err error) {
	c, err := f.counted()
	if err != nil || !f.There() {
		return 0, Continue, err
	}
	e, err := f.Entries()
	if err != nil {
		return c.boots, Continue, err
	}
	trial := c.trial && !e.first(running)
	c.trial = false
	if !trial {
		c.boots, step = Next(c.boots)
	}
	if err := f.keep(c); err != nil {
		// A count that cannot be kept must not lead to a restart that would be repeated for ever.
		return c.boots, Continue, err
	}
	if step != Switch {
		return c.boots, step, nil
	}
	n, ok := e.Alternative(running)
	if !ok {
		return c.boots, Continue, nil
	}
	// Once, and not by the order: only health puts a slot first. The other one may hold an image that never was
	// healthy, and one that dies before it counts would be started for ever.
	if err := f.Variables.Set(bootNext, VendorGlobal, binary.LittleEndian.AppendUint16(nil, n)); err != nil {
		return c.boots, Continue, err
	}
	return c.boots, Switch, nil
}

// get is nil for a variable that is not there.
func (f Firmware) get(name, vendor string) ([]byte, error) {
	b, err := f.Variables.Get(name, vendor)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func entryName(n uint16) string { return fmt.Sprintf("Boot%04X", n) }

func entryNumber(name string) (uint16, bool) {
	if len(name) != 8 || name[:4] != "Boot" {
		return 0, false
	}
	n, err := strconv.ParseUint(name[4:], 16, 16)
	return uint16(n), err == nil
}
