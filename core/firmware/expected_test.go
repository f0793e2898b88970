package firmware

import (
	"errors"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/bundle"
	fw "github.com/ratchetos/ratchet/hw/firmware"
)

// TestExpected: a package that names no component of the device would flash it all the same and have the next boot
// isolate it, or pass for one that the device runs already.
func TestExpected(t *testing.T) {
	nic := []fw.Component{{Name: "board.id", Running: "K1", Fixed: true}, {Name: "fw.mgmt", Running: "9.40"}, {Name: "fw.undi", Running: "1.2"}}
	one := []fw.Component{{Name: "board.id", Running: "K1", Fixed: true}, {Name: "fw.mgmt", Running: "9.40"}}
	disk := []fw.Component{{Running: "2B2Q"}}
	for name, c := range map[string]struct {
		components []fw.Component
		versions   map[string]string
		want, says string
	}{
		"one of several":       {nic, map[string]string{"fw.mgmt": "9.50"}, "fw.mgmt 9.50, fw.undi 1.2", ""},
		"all":                  {nic, map[string]string{"fw.mgmt": "9.50", "fw.undi": "1.3"}, "fw.mgmt 9.50, fw.undi 1.3", ""},
		"the only one":         {one, map[string]string{"": "9.50"}, "9.50", ""},
		"the only one by name": {one, map[string]string{"fw.mgmt": "9.50"}, "9.50", ""},
		"disk":                 {disk, map[string]string{"": "2B2R"}, "2B2R", ""},
		"mistyped":             {nic, map[string]string{"fw.mgnt": "9.50"}, "", `no component "fw.mgnt" but fw.mgmt, fw.undi`},
		"none of several":      {nic, map[string]string{"": "9.50"}, "", "several: fw.mgmt, fw.undi"},
		"part of the board":    {nic, map[string]string{"board.id": "K2"}, "", `no component "board.id"`},
		"unreadable, one":      {remembered("9.40", map[string]string{"fw.mgmt": "9.50"}), map[string]string{"fw.mgmt": "9.50"}, "9.50", ""},
		"unreadable, several":  {remembered("fw.mgmt 9.40, fw.undi 1.2 b", nil), map[string]string{"fw.mgmt": "9.50"}, "fw.mgmt 9.50, fw.undi 1.2 b", ""},
		"name of a disk":       {disk, map[string]string{"fw": "2B2R"}, "", `no component "fw"`},
	} {
		got, err := expected(bundle.DeviceManifest{Versions: c.versions}, fw.Reading{Strength: fw.Version}, c.components)
		switch {
		case c.says == "" && (err != nil || got.Version != c.want):
			t.Errorf("%s: %q, %v, want %q", name, got.Version, err, c.want)
		case c.says != "" && (!errors.Is(err, ErrOther) || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: %q, %v, want an error that says %q", name, got.Version, err, c.says)
		}
	}
}
