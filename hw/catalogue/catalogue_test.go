package catalogue

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/configs"
)

func load(t testing.TB) *Catalogue {
	t.Helper()
	c, err := Load(configs.Hardware)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every id and class must be one that a module of its group claims in the locked kernel.
func TestIDsAreTheKernelsOwn(t *testing.T) {
	data, err := os.ReadFile("testdata/pci-aliases.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		known[strings.TrimSpace(line)] = true
	}
	c := load(t)
	claimed := func(r ref, id, vendor string) bool {
		return slices.ContainsFunc(c.entries[r.entry].Modules, func(module string) bool {
			return known[module+" "+id] || known[module+" "+vendor+":*"]
		})
	}
	for id, r := range c.ids {
		if !claimed(r, id, id[:4]) {
			t.Errorf("%s (%s): no module of %v has this alias", id, r.model, c.entries[r.entry].Modules)
		}
	}
	for class, r := range c.classes {
		if !claimed(r, "class "+class, "") {
			t.Errorf("class %s: no module of %v has this alias", class, c.entries[r.entry].Modules)
		}
	}
	if len(c.ids) < 200 {
		t.Errorf("only %d ids in the catalogue", len(c.ids))
	}
}

func TestMatch(t *testing.T) {
	c := load(t)
	for _, tt := range []struct{ vendor, product, class, driver, bus string }{
		{"1af4", "1041", "020000", "virtio-pci", "virtio"},
		{"1af4", "1000", "020000", "virtio-pci", "virtio"},
		{"1af4", "1042", "010000", "virtio-pci", "virtio"},
		{"1af4", "1048", "010000", "virtio-pci", "scsi"},
		{"8086", "100e", "020000", "e1000", "pci"},
		{"8086", "10d3", "020000", "e1000e", "pci"},
		{"8086", "10c9", "020000", "igb", "pci"},
		{"15ad", "07b0", "020000", "vmxnet3", "pci"},
		{"10ec", "8139", "020000", "8139cp", "pci"},
		{"1b36", "0010", "010802", "nvme", "nvme"}, // by class
		{"8086", "2922", "010601", "ahci", "ata"},
		{"1000", "0060", "010400", "megaraid_sas", "scsi"},
		{"1b36", "000d", "0c0330", "xhci_hcd", "usb"},
		{"15b3", "1017", "020000", "mlx5_core", "pci"},
		{"8086", "10d4", "020000", "", ""}, // one off a known id
		{"1234", "1111", "030000", "", ""},
	} {
		e, ok := c.Match(tt.vendor, tt.product, tt.class)
		if e.Driver != tt.driver || e.Bus != tt.bus || ok != (tt.driver != "") || ok && e.Model == "" {
			t.Errorf("Match(%s:%s, %s) = %q on %q, %v", tt.vendor, tt.product, tt.class, e.Driver, e.Bus, ok)
		}
	}
}

func TestModules(t *testing.T) {
	c := load(t)
	full, cloud := c.Modules("full"), c.Modules("cloud")
	for _, m := range []string{"ext4", "e1000e", "nvme", "usb_storage", "sd_mod", "i6300esb"} {
		if !slices.Contains(full, m) {
			t.Errorf("full lacks %s", m)
		}
	}
	if slices.Contains(cloud, "e1000e") || !slices.Contains(cloud, "virtio_net") || !slices.IsSorted(cloud) {
		t.Errorf("cloud: %v", cloud)
	}
}

func TestLoadRefuses(t *testing.T) {
	const good = "version: 1\ndevices:\n  - {driver: d, kind: nic, bus: pci, modules: [m], flavours: [full], ids: \"8086:1234 X\"}\n"
	if _, err := Load([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, from, to, want string }{
		{"version", "version: 1", "version: 2", "version 2"},
		{"unknown key", "driver: d,", "driver: d, dirver: x,", "dirver"},
		{"kind", "kind: nic", "kind: gpu", `kind "gpu"`},
		{"bus", "bus: pci", "bus: isa", `bus "isa"`},
		{"flavour", "[full]", "[tiny]", `flavour "tiny"`},
		{"upper case", "8086:1234", "8086:12AB", "lower-case"},
		{"no model", "8086:1234 X", "8086:1234", "vendor:device model"},
		{"twice", "8086:1234 X", "8086:1234 X\\n8086:1234 Y", "twice"},
		{"no ids", ", ids: \"8086:1234 X\"", "", "neither ids nor class"},
		{"no modules", "modules: [m]", "modules: []", "must be given"},
		{"known good", "flavours:", "known_good: \"8086:12G4 1\", flavours:", "known_good"},
		{"known good without version", "flavours:", "known_good: \"*\", flavours:", "known_good"},
		{"class", "ids: \"8086:1234 X\"", "class: \"0108\", model: X", "six"},
	} {
		_, err := Load([]byte(strings.Replace(good, tt.from, tt.to, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

func TestKnownGood(t *testing.T) {
	c, err := Load([]byte(`version: 1
devices:
  - {driver: d, kind: nic, bus: pci, modules: [m], flavours: [full], ids: "8086:1234 X", known_good: "8086:1234 1.0 rc\n8086:1234 2\n8086:0001 3"}
  - {driver: v, kind: nic, bus: pci, modules: [m], flavours: [full], ids: "1af4:1041 V", known_good: "* -"}
  - {driver: n, kind: nic, bus: pci, modules: [m], flavours: [full], ids: "1af4:0001 N"}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		id, version string
		want        bool
	}{
		{"8086:1234", "1.0 rc", true},
		{"8086:1234", "2", true},
		{"8086:1234", "3", false},
		{"8086:1234", "", false},
		{"1af4:1041", "", true},
		{"1af4:1041", "1", false},
		{"1af4:0001", "", false},
	} {
		e, ok := c.Match(tt.id[:4], tt.id[5:], "020000")
		if !ok || e.KnownGood(tt.id, tt.version) != tt.want {
			t.Errorf("%s with %q: known good %t, want %t", tt.id, tt.version, !tt.want, tt.want)
		}
	}
}

// The catalogue is read on every boot before the verdict, under emulation ten times slower.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("version: 1\ndevices:\n  - {driver: d, kind: nic, bus: pci, modules: [m], flavours: [full], ids: \"8086:1234 X\"}\n"))
	f.Add([]byte("version: 1\nbase: {all: [ext4]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Load(data); err == nil {
			c.Modules("full")
			c.Match("8086", "1234", "010802")
		}
	})
}
