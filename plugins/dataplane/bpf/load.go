package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/cilium/ebpf"
)

// LoadOptions says how a collection becomes maps and programs. The zero value loads it as it is, nothing pinned.
type LoadOptions struct {
	Pins *Pins
	// Pin names the maps that are pinned in Pins. One that is there already is taken over.
	Pin []string
	// Sizes replaces max_entries by map name. A map that is taken over keeps the size it was made with.
	Sizes map[string]uint32
	// Vars sets constants (`const volatile` in .rodata) by name.
	Vars map[string]any
}

// Loaded is a collection in the kernel. Its maps and programs live until Close and, if pinned, beyond.
type Loaded struct {
	*ebpf.Collection
	// TookOver is true if every map of LoadOptions.Pin was there before.
	TookOver bool
}

// Load puts spec into the kernel; spec is changed. When the verifier refuses, the error has its last lines.
func Load(spec *ebpf.CollectionSpec, o LoadOptions) (*Loaded, error) {
	for name, n := range o.Sizes {
		m := spec.Maps[name]
		if m == nil {
			return nil, fmt.Errorf("size of map %s: there is no such map", name)
		}
		m.MaxEntries = n
	}
	for name, value := range o.Vars {
		v := spec.Variables[name]
		if v == nil {
			return nil, fmt.Errorf("constant %s: there is no such variable", name)
		}
		if err := v.Set(value); err != nil {
			return nil, fmt.Errorf("constant %s: %w", name, err)
		}
	}
	kept, err := pinned(spec, o)
	defer func() {
		for _, m := range kept {
			_ = m.Close() // the collection holds its own reference
		}
	}()
	if err != nil {
		return nil, err
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: kept})
	if err != nil {
		if verifier := (*ebpf.VerifierError)(nil); errors.As(err, &verifier) {
			return nil, fmt.Errorf("load programs: %w\n%s", err, strings.Join(verifier.Log[max(0, len(verifier.Log)-12):], "\n"))
		}
		return nil, fmt.Errorf("load programs: %w", err)
	}
	l := &Loaded{Collection: c, TookOver: len(o.Pin) > 0 && len(kept) == len(o.Pin)}
	if o.Pins == nil {
		return l, nil
	}
	for _, name := range o.Pin {
		if kept[name] != nil {
			continue
		}
		if err := c.Maps[name].Pin(o.Pins.Path(name)); err != nil {
			c.Close()
			return nil, fmt.Errorf("pin map %s: %w", name, err)
		}
	}
	return l, nil
}

// pinned opens the maps that are there already. The pinned one's size wins: entries outlive a changed
// configuration, and an array cannot be resized. Any other difference is refused by name.
func pinned(spec *ebpf.CollectionSpec, o LoadOptions) (map[string]*ebpf.Map, error) {
	kept := make(map[string]*ebpf.Map, len(o.Pin))
	for _, name := range o.Pin {
		want := spec.Maps[name]
		if want == nil {
			return kept, fmt.Errorf("pin map %s: there is no such map", name)
		}
		if o.Pins == nil {
			continue
		}
		m, err := ebpf.LoadPinnedMap(o.Pins.Path(name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return kept, fmt.Errorf("open pinned map %s: %w", o.Pins.Path(name), err)
		}
		kept[name] = m
		want.MaxEntries = m.MaxEntries()
		if err := want.Compatible(m); err != nil {
			return kept, fmt.Errorf("pinned map %s is not of this version: %w; remove %[1]s to start with an empty one", o.Pins.Path(name), err)
		}
	}
	return kept, nil
}
