package hw

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/hw/catalogue"
	"github.com/ratchetos/ratchet/hw/internal/sysfs"
	"github.com/ratchetos/ratchet/hw/kmod"
	"github.com/ratchetos/ratchet/hw/pci"
)

// Options of Open. The zero value is the running system with the embedded catalogue.
type Options struct {
	Root      string               // "" means "/"; tests have a tree of their own
	Catalogue *catalogue.Catalogue // nil means the embedded one
	Flavour   string               // kernel flavour, "" means: as the kernel's release says
	Simulated bool                 // disks with the serial of a simulated device are one
	Log       *slog.Logger         // nil discards
}

// System is the hardware of this box.
type System struct {
	root      string
	live      bool // the root is the running system: ioctls and kernel events make sense
	flavour   string
	simulated bool
	log       *slog.Logger
	catalogue func() (*catalogue.Catalogue, error)
	bus       pci.Bus
	modules   *kmod.Loader

	mu   sync.Mutex
	seen map[string][]Device // by PCI address: as read when the function was bound
	boot string              // node of the boot disk
	// By PCI address: disks to scan for again, and ATA ports that are known to be empty. The kernel
	// log says the latter once, and a second bind comes too late to read it.
	hidden map[string][]lun
	empty  map[string]map[string]bool
}

// Open reads the module closure and starts reading the catalogue. It changes nothing.
func Open(o Options) (*System, error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// Under emulation reading the catalogue takes time that a boot can use for something else:
	// it starts here and is waited for where it is first needed.
	cat := sync.OnceValues(func() (*catalogue.Catalogue, error) {
		if o.Catalogue != nil {
			return o.Catalogue, nil
		}
		return catalogue.Embedded()
	})
	go cat() //nolint:errcheck // the one who waits gets the error
	modules, err := kmod.NewLoader(o.Root)
	if err != nil {
		return nil, err
	}
	s := &System{
		root: o.Root, live: filepath.Clean(o.Root) == "/", flavour: o.Flavour, simulated: o.Simulated, log: o.Log,
		catalogue: cat, bus: pci.Bus{Root: o.Root}, modules: modules,
		seen: map[string][]Device{}, hidden: map[string][]lun{}, empty: map[string]map[string]bool{},
	}
	if s.flavour == "" {
		s.flavour = flavourOf(s.attribute("/proc/sys/kernel/osrelease"))
	}
	return s, nil
}

// flavourOf knows Debian's names; any other kernel has an unknown flavour.
func flavourOf(release string) string {
	switch {
	case strings.HasSuffix(release, "-cloud-amd64"):
		return "cloud"
	case strings.HasSuffix(release, "-amd64"):
		return "full"
	}
	return ""
}

// MarkBoot tells which disk the image was booted from, by its node; the inventory shows it.
func (s *System) MarkBoot(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.boot = node
}

// Functions lists the PCI functions that the catalogue knows, and those that are a NIC or a
// disk controller by their class but unknown to it. Nothing is bound or opened.
func (s *System) Functions() ([]Device, error) {
	if _, err := s.catalogue(); err != nil {
		return nil, err
	}
	functions, err := s.bus.Scan()
	if err != nil {
		return nil, err
	}
	var devices []Device
	for _, f := range functions {
		if d, ok := s.describe(f); ok {
			devices = append(devices, d)
		}
	}
	return devices, nil
}

// match asks the catalogue; one that could not be read knows nothing.
func (s *System) match(f pci.Function) (catalogue.Entry, bool) {
	cat, err := s.catalogue()
	if err != nil {
		return catalogue.Entry{}, false
	}
	return cat.Match(f.Vendor, f.Device, f.Class)
}

// describe makes a Device of a bare function; ok is false for what is neither NIC nor disk.
func (s *System) describe(f pci.Function) (d Device, ok bool) {
	place := "pci:" + f.Address
	d = Device{ID: place, Place: place, Bus: "pci", Vendor: f.Vendor, Product: f.Device, Driver: f.Driver}
	entry, known := s.match(f)
	switch {
	case known:
		d.Kind, d.Bus, d.Model = kindOf(entry), entry.Bus, entry.Model
		if d.Supported = entry.In(s.flavour); !d.Supported {
			d.Why = fmt.Sprintf("the %s kernel has no driver %s; use the image with one of: %s",
				s.flavour, entry.Driver, strings.Join(entry.Flavours, ", "))
		}
	case strings.HasPrefix(f.Class, "02"):
		d.Kind = NIC
	case strings.HasPrefix(f.Class, "01"):
		d.Kind = Disk
	default:
		return Device{}, false
	}
	if !known {
		d.Model = fmt.Sprintf("PCI device %s:%s", f.Vendor, f.Device)
		d.Why = fmt.Sprintf("not in the hardware catalogue (%s:%s, class %s)", f.Vendor, f.Device, f.Class)
	}
	return d, true
}

func kindOf(e catalogue.Entry) Kind {
	if e.Kind == catalogue.NIC {
		return NIC
	}
	return Disk
}

// address takes the PCI address out of a place; what is behind the function does not matter.
func address(place string) (string, error) {
	a, ok := strings.CutPrefix(place, "pci:")
	a, _, _ = strings.Cut(a, "/")
	if !ok || !pci.ValidAddress(a) {
		return "", fmt.Errorf("%q is not a place such as pci:0000:00:04.0", place)
	}
	return a, nil
}

// attribute reads a small file below the root, "" when there is none.
func (s *System) attribute(path ...string) string {
	return sysfs.Attribute(append([]string{s.root}, path...)...)
}

// set writes a sysfs or procfs attribute that may not exist on this kernel.
func (s *System) set(path, value string) error {
	if err := s.write(path, value); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *System) glob(pattern string) []string {
	// The patterns are constants of this package, so that Glob cannot fail.
	paths, _ := filepath.Glob(filepath.Join(s.root, pattern))
	slices.Sort(paths)
	return paths
}
