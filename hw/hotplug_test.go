package hw

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/hw/uevent"
)

func ids(devices []Device) (out []string) {
	for _, d := range devices {
		out = append(out, d.ID)
	}
	slices.Sort(out)
	return out
}

func TestChanges(t *testing.T) {
	nic := Device{ID: "mac:1", Place: "pci:0000:00:03.0", Driver: "e1000e", Node: "eth0"}
	bareNIC := Device{ID: nic.Place, Place: nic.Place}
	a := Device{ID: "serial:a", Place: "pci:0000:00:04.0/0:0:0", Driver: "virtio-pci", Node: "/dev/sda"}
	b := Device{ID: "serial:b", Place: "pci:0000:00:04.0/0:1:0", Driver: "virtio-pci", Node: "/dev/sdb"}
	empty := Device{ID: "pci:0000:00:04.0", Place: "pci:0000:00:04.0", Driver: "virtio-pci"}
	a.Serial = "a"
	clone := a
	clone.Place = "pci:0000:00:04.0/0:2:0"
	unnamed := func(d Device) Device { d.ID = d.Place; return d } // as disambiguate leaves devices of one serial
	file := Device{ID: "file:/x", Place: "file:/x"}
	for name, tt := range map[string]struct {
		before, after []Device
		gone, came    []string
	}{
		"nothing":               {[]Device{nic, a, file}, []Device{a, nic}, nil, nil},
		"function pulled":       {[]Device{nic, a}, []Device{a}, []string{"mac:1"}, nil},
		"function plugged":      {[]Device{a}, []Device{a, bareNIC}, nil, []string{nic.Place}},
		"driver taken":          {[]Device{nic}, []Device{bareNIC}, nil, nil},
		"driver bound":          {[]Device{bareNIC}, []Device{nic}, nil, nil},
		"disk pulled":           {[]Device{a, b}, []Device{a}, []string{"serial:b"}, nil},
		"disk plugged":          {[]Device{a}, []Device{a, b}, nil, []string{"serial:b"}},
		"disk swapped":          {[]Device{a}, []Device{b}, []string{"serial:a"}, []string{"serial:b"}},
		"first disk of its bus": {[]Device{empty}, []Device{a}, nil, []string{"serial:a"}},
		"last disk of its bus":  {[]Device{a}, []Device{empty}, []string{"serial:a"}, nil},
		"clone plugged":         {[]Device{a}, []Device{unnamed(a), unnamed(clone)}, nil, []string{clone.Place}},
		"clone pulled":          {[]Device{unnamed(a), unnamed(clone)}, []Device{a}, []string{clone.Place}, nil},
		"controller pulled":     {[]Device{a, b}, nil, []string{"serial:a", "serial:b"}, nil},
	} {
		gone, came := Changes(tt.before, tt.after)
		if !slices.Equal(ids(gone), tt.gone) || !slices.Equal(ids(came), tt.came) {
			t.Errorf("%s: gone %v, came %v; want %v and %v", name, ids(gone), ids(came), tt.gone, tt.came)
		}
	}
}

// TestPluggedFunctionIsIsolated: the kernel may have bound it before anybody was told.
func TestPluggedFunctionIsIsolated(t *testing.T) {
	s, root := open(t, box)
	event := func(action, address, subsystem string) bool {
		return s.notice(uevent.Event{Action: action, Path: "/devices/pci0000:00/" + address, Subsystem: subsystem})
	}
	override := func(address string) string {
		b, err := os.ReadFile(filepath.Join(root, "sys/devices/pci0000:00", address, "driver_override"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	if !event("add", "0000:00:02.0", "pci") {
		t.Error("a NIC that was plugged went unnoticed")
	}
	if got := override("0000:00:02.0"); got != "isolated" {
		t.Errorf("override %q", got)
	}
	if !event("add", "0000:00:00.0", "pci") || override("0000:00:00.0") == "isolated" {
		t.Error("a bridge is no device")
	}
	if !event("remove", "0000:00:1e.0", "pci") || !event("add", "0000:00:03.0/virtio1/block/vdb", "block") {
		t.Error("a change went unnoticed")
	}
	if event("bind", "0000:00:02.0", "pci") || event("add", "0000:00:02.0/net/eth1", "net") {
		t.Error("noticed what is no change")
	}
}
