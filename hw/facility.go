package hw

import (
	"fmt"

	"github.com/ratchetos/ratchet/hw/catalogue"
)

// Facility finds a part of the kernel by its name in the catalogue. It loads nothing.
func (s *System) Facility(name string) (catalogue.Facility, error) {
	cat, err := s.catalogue()
	if err != nil {
		return catalogue.Facility{}, err
	}
	f, known := cat.Facility(name)
	if !known {
		return f, fmt.Errorf("the hardware catalogue knows no facility %q", name)
	}
	if !f.In(s.flavour) {
		return f, fmt.Errorf("the %s kernel has no %s", s.flavour, name)
	}
	return f, nil
}

// LoadFacility loads the modules of a facility. The directory in which the kernel keeps files of it must exist before:
// some modules look for it once.
func (s *System) LoadFacility(f catalogue.Facility) error { return s.modules.Load(f.Modules...) }
