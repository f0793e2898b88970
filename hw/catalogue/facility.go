package catalogue

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Facility is a part of the kernel that is no device: what its modules bring can be used once they are loaded.
type Facility struct {
	// Modules are loaded in this order.
	Modules  []string `yaml:"modules" json:"modules,omitempty"`
	Flavours []string `yaml:"flavours" json:"flavours,omitempty"`
	// Configfs is the directory of configfs in which it is set up, "" when there is none.
	Configfs string `yaml:"configfs" json:"configfs,omitempty"`
	// State is the directory in which the kernel itself keeps files of it, "" when it does not.
	State string `yaml:"state" json:"state,omitempty"`
}

// Facility finds one by name.
func (c *Catalogue) Facility(name string) (Facility, bool) {
	f, ok := c.facilities[name]
	return f, ok
}

// In says whether a kernel flavour has it; the empty flavour stands for an unknown kernel.
func (f Facility) In(flavour string) bool {
	return flavour == "" || slices.Contains(f.Flavours, flavour)
}

func checkFacilities(all map[string]Facility) error {
	for name, f := range all {
		switch {
		case len(f.Modules) == 0 || len(f.Flavours) == 0:
			return fmt.Errorf("facilities.%s: modules and flavours must be given", name)
		case strings.ContainsAny(f.Configfs, "/."):
			return fmt.Errorf("facilities.%s: configfs %q: want the name of a directory", name, f.Configfs)
		case f.State != "" && (!path.IsAbs(f.State) || path.Clean(f.State) != f.State):
			return fmt.Errorf("facilities.%s: state %q: want an absolute path", name, f.State)
		}
		if err := checkFlavours(f.Flavours); err != nil {
			return fmt.Errorf("facilities.%s: %w", name, err)
		}
	}
	return nil
}

func checkFlavours(list []string) error {
	for _, f := range list {
		if f != "full" && f != "cloud" {
			return fmt.Errorf("flavour %q: want full or cloud", f)
		}
	}
	return nil
}
