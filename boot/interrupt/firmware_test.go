package interrupt

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/boot/slot"
)

// variables are the firmware's memory. UEFI demands that each write is whole or not at all.
type variables struct {
	p  *power
	mu sync.Mutex
	m  map[string][]byte
}

var _ slot.Variables = (*variables)(nil)

func (v *variables) Get(name, vendor string) ([]byte, error) {
	if err := v.p.read(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	b, ok := v.m[name+"-"+vendor]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (v *variables) Set(name, vendor string, value []byte) error {
	if err := v.p.effect("set " + name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.m[name+"-"+vendor] = bytes.Clone(value)
	return nil
}

func (v *variables) Delete(name, vendor string) error {
	if _, err := v.Get(name, vendor); err != nil {
		return v.p.read()
	}
	if err := v.p.effect("delete " + name); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.m, name+"-"+vendor)
	return nil
}

func (v *variables) Names(vendor string) ([]string, error) {
	if err := v.p.read(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for k := range v.m {
		if name, ok := strings.CutSuffix(k, "-"+vendor); ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// start is what UEFI does at power-on: BootNext, which is used up, then BootOrder, then the removable path of each
// partition. What does not exist or does not pass Secure Boot is passed over. "" starts nothing.
func (b *box) start() (name string, i *image, err error) {
	var tries []uint16
	if next, err := b.vars.Get("BootNext", slot.VendorGlobal); err == nil {
		if err := b.vars.Delete("BootNext", slot.VendorGlobal); err != nil {
			return "", nil, err
		}
		tries = append(tries, binary.LittleEndian.Uint16(next))
	}
	order, _ := b.vars.Get("BootOrder", slot.VendorGlobal)
	for ; len(order) >= 2; order = order[2:] {
		tries = append(tries, binary.LittleEndian.Uint16(order))
	}
	var names []string
	for _, n := range tries {
		text, err := b.vars.Get(fmt.Sprintf("Boot%04X", n), slot.VendorGlobal)
		if err != nil {
			continue
		}
		o, err := slot.ParseOption(text)
		if err != nil || !o.Active {
			continue
		}
		for _, s := range slot.Names {
			if b.guid(s) == o.Place.GUID {
				names = append(names, s)
			}
		}
	}
	for _, s := range append(names, slot.Names[:]...) {
		if i := b.holds(s); i != nil {
			return s, i, b.power.read()
		}
	}
	return "", nil, b.power.read()
}
