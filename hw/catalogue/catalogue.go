package catalogue

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Kind of what a PCI function gives.
type Kind string

// What a function can give: a link, or a controller with disks behind it.
const (
	NIC            Kind = "nic"
	DiskController Kind = "disk-controller"
)

// Entry is what the catalogue knows about one PCI function.
type Entry struct {
	Kind  Kind
	Model string
	// Driver is the name under /sys/bus/pci/drivers, which is not always a module's name.
	Driver string
	// Modules are loaded in this order before the driver binds.
	Modules []string
	// Bus is where the NIC or disk shows up: pci, virtio, scsi, ata, nvme or usb.
	Bus string
	// Flavours are the kernels that have the driver, Builtin those that have it compiled in.
	Flavours []string
	Builtin  []string
	// Capabilities the driver is known for, such as "xdp" or "discard".
	Capabilities []string
	// Firmware says what the driver would like from linux-firmware, "" when nothing.
	Firmware string
	good     map[string][]string // by id or "*": versions, "-" for none told
}

// KnownGood says whether a firmware version is known to be good on a model, by its "vendor:device";
// the version "" is that of a device which tells none.
func (e Entry) KnownGood(id, version string) bool {
	if version == "" {
		version = "-"
	}
	return slices.Contains(e.good[id], version) || slices.Contains(e.good["*"], version)
}

// In says whether a kernel flavour has the driver; the empty flavour stands for an unknown
// kernel, which is assumed to have it.
func (e Entry) In(flavour string) bool {
	return flavour == "" || slices.Contains(e.Flavours, flavour)
}

// Catalogue is the loaded table. It is immutable.
type Catalogue struct {
	base       map[string][]string
	facilities map[string]Facility
	entries    []Entry        // in the order of the file, one a group of ids
	ids        map[string]ref // "vendor:device"
	classes    map[string]ref // six hex digits
}

type ref struct {
	entry int
	model string
}

// file is the YAML document.
type file struct {
	Version    int                 `yaml:"version" json:"version,omitempty"`
	Base       map[string][]string `yaml:"base" json:"base,omitempty"`
	Facilities map[string]Facility `yaml:"facilities" json:"facilities,omitempty"`
	Devices    []group             `yaml:"devices" json:"devices,omitempty"`
}

type group struct {
	Driver       string   `yaml:"driver" json:"driver,omitempty"`
	Kind         Kind     `yaml:"kind" json:"kind,omitempty"`
	Bus          string   `yaml:"bus" json:"bus,omitempty"`
	Modules      []string `yaml:"modules" json:"modules,omitempty"`
	Flavours     []string `yaml:"flavours" json:"flavours,omitempty"`
	Builtin      []string `yaml:"builtin" json:"builtin,omitempty"`
	Capabilities []string `yaml:"capabilities" json:"capabilities,omitempty"`
	Firmware     string   `yaml:"firmware" json:"firmware,omitempty"`
	Class        string   `yaml:"class" json:"class,omitempty"`
	Model        string   `yaml:"model" json:"model,omitempty"`
	IDs          string   `yaml:"ids" json:"ids,omitempty"`
	KnownGood    string   `yaml:"known_good" json:"known_good,omitempty"`
}

// Load reads a catalogue. All errors carry what to look for in the file.
func Load(data []byte) (*Catalogue, error) {
	f, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read hardware catalogue: %w", err)
	}
	return build(f)
}

// build checks a document and makes the catalogue of it.
func build(f file) (*Catalogue, error) {
	if f.Version != 1 {
		return nil, fmt.Errorf("read hardware catalogue: version %d, this build reads 1", f.Version)
	}
	if err := checkFacilities(f.Facilities); err != nil {
		return nil, fmt.Errorf("read hardware catalogue: %w", err)
	}
	c := &Catalogue{base: f.Base, facilities: f.Facilities, ids: map[string]ref{}, classes: map[string]ref{}}
	for i, g := range f.Devices {
		if err := c.add(g); err != nil {
			return nil, fmt.Errorf("read hardware catalogue: devices[%d] (%s): %w", i, g.Driver, err)
		}
	}
	return c, nil
}

// decode turns a panic into an error: goccy/go-yaml 1.19.2 has one for a tag without a value,
// which fuzzing found.
func decode(data []byte) (f file, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed YAML: %v", r)
		}
	}()
	err = yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&f)
	return f, err
}

func (c *Catalogue) add(g group) error {
	if err := g.check(); err != nil {
		return err
	}
	good, err := g.knownGood()
	if err != nil {
		return err
	}
	n := len(c.entries)
	c.entries = append(c.entries, Entry{
		Kind: g.Kind, Model: g.Model, Driver: g.Driver, Modules: g.Modules, Bus: g.Bus,
		Flavours: g.Flavours, Builtin: g.Builtin, Capabilities: g.Capabilities, Firmware: g.Firmware, good: good,
	})
	if g.Class != "" {
		if _, dup := c.classes[g.Class]; dup {
			return fmt.Errorf("class %s appears twice", g.Class)
		}
		c.classes[g.Class] = ref{n, g.Model}
	}
	for line := range strings.Lines(g.IDs) {
		id, model, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id == "" {
			continue
		}
		vendor, device, _ := strings.Cut(id, ":")
		if !isHex(vendor, 4) || !isHex(device, 4) || model == "" {
			return fmt.Errorf("id line %q: want \"vendor:device model\" with four lower-case hex digits each", strings.TrimSpace(line))
		}
		if _, dup := c.ids[id]; dup {
			return fmt.Errorf("id %s appears twice", id)
		}
		c.ids[id] = ref{n, model}
	}
	return nil
}

func (g group) check() error {
	switch {
	case g.Driver == "" || len(g.Modules) == 0 || len(g.Flavours) == 0:
		return fmt.Errorf("driver, modules and flavours must be given")
	case g.Kind != NIC && g.Kind != DiskController:
		return fmt.Errorf("kind %q: want nic or disk-controller", g.Kind)
	case !slices.Contains([]string{"pci", "virtio", "scsi", "ata", "nvme", "usb"}, g.Bus):
		return fmt.Errorf("bus %q: want pci, virtio, scsi, ata, nvme or usb", g.Bus)
	case g.Class == "" && g.IDs == "":
		return fmt.Errorf("neither ids nor class")
	case g.Class != "" && (!isHex(g.Class, 6) || g.Model == ""):
		return fmt.Errorf("class %q: want six lower-case hex digits, and a model", g.Class)
	}
	return checkFlavours(append(slices.Clone(g.Flavours), g.Builtin...))
}

// knownGood reads lines of "vendor:device version", "*" for every id of the group.
func (g group) knownGood() (map[string][]string, error) {
	var good map[string][]string
	for line := range strings.Lines(g.KnownGood) {
		id, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		if id == "" {
			continue
		}
		vendor, device, _ := strings.Cut(id, ":")
		if version == "" || id != "*" && (!isHex(vendor, 4) || !isHex(device, 4)) {
			return nil, fmt.Errorf("known_good line %q: want \"vendor:device version\", or \"* version\"", strings.TrimSpace(line))
		}
		if good == nil {
			good = map[string][]string{}
		}
		good[id] = append(good[id], version)
	}
	return good, nil
}

func isHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

// Match finds the entry for a PCI function. Arguments are lower-case hex as in sysfs without
// the 0x: vendor "8086", product "10d3", class "020000".
func (c *Catalogue) Match(vendor, product, class string) (Entry, bool) {
	r, ok := c.ids[vendor+":"+product]
	if !ok {
		r, ok = c.classes[class]
	}
	if !ok {
		return Entry{}, false
	}
	e := c.entries[r.entry]
	e.Model = r.model
	return e, true
}

// Modules are the names of the modules an image of the flavour carries, sorted; their
// dependencies are for the image builder to add.
func (c *Catalogue) Modules(flavour string) []string {
	names := slices.Concat(c.base["all"], c.base[flavour])
	for _, e := range c.entries {
		if slices.Contains(e.Flavours, flavour) {
			names = append(names, e.Modules...)
		}
	}
	for _, f := range c.facilities {
		if slices.Contains(f.Flavours, flavour) {
			names = append(names, f.Modules...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Entries lists the groups of the file in order, for documentation and tests.
func (c *Catalogue) Entries() []Entry { return slices.Clone(c.entries) }
