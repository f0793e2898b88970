package hw

import (
	"fmt"
	"slices"
)

// LoadModule makes sure that a kernel module is loaded, with what it depends on.
func (s *System) LoadModule(name string) error { return s.modules.Load(name) }

// DiscardModules removes the files of modules that nobody will load from the image's file system: of those that are
// in the kernel and, on a machine that no PCI device can be plugged into, of drivers for devices that it lacks.
func (s *System) DiscardModules() error {
	if s.flavour == "" {
		return nil // which modules a kernel of somebody's own has is not known here
	}
	cat, err := s.catalogue()
	if err != nil {
		return fmt.Errorf("discard modules: %w", err)
	}
	keep := cat.Modules(s.flavour)
	if !s.pluggable() {
		if keep, err = s.fixed(keep); err != nil {
			return fmt.Errorf("discard modules: %w", err)
		}
	}
	return s.modules.Discard(keep)
}

// pluggable says whether the kernel watches a slot for PCI devices to come. Ports for cables that carry PCI have one too.
func (s *System) pluggable() bool { return len(s.glob("sys/bus/pci/slots/*")) > 0 }

// fixed leaves out the drivers that no PCI function of this machine is for. What the drivers of controllers that are
// here need for disks behind them stays, whether there are any now or not.
func (s *System) fixed(modules []string) ([]string, error) {
	cat, err := s.catalogue()
	if err != nil {
		return nil, err
	}
	functions, err := s.bus.Scan()
	if err != nil {
		return nil, err
	}
	var here, absent []string
	for _, f := range functions {
		if entry, ok := s.match(f); ok {
			here = append(here, entry.Modules...)
		}
	}
	for _, entry := range cat.Entries() {
		for _, m := range entry.Modules {
			if !slices.Contains(here, m) {
				absent = append(absent, m)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(modules), func(m string) bool { return slices.Contains(absent, m) }), nil
}
