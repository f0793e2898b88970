package exports

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/core/plugin"
)

// volumes that the scripts know.
func volumes() []Volume {
	var list []Volume
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, Volume{Name: name, Place: Place{Bucket: "bucket", Prefix: "site", Volume: name}})
	}
	return list
}

// TestConfig runs testdata/config.txt: a section, what Check says of it and what is exported.
func TestConfig(t *testing.T) {
	datadriven.RunTest(t, "testdata/config.txt", func(t *testing.T, d *datadriven.TestData) string {
		var c Config
		v := plugin.Decode(plugin.Section{JSON: []byte(d.Input)}, &c)
		c.Check(&v, "target", volumes())
		var out strings.Builder
		for _, d := range v.Diagnostics {
			fmt.Fprintf(&out, "%s: %s\n", d.GetPath(), d.GetMessage())
		}
		for _, e := range c.List(volumes()) {
			fmt.Fprintf(&out, "%s %s as %s %s at %v for %v\n", e.Protocol, e.Volume, e.Name, e.Identity(), e.Portals, e.Clients)
		}
		fmt.Fprintf(&out, "enabled %t, a exported %t\n", c.Enabled(), c.Exports("a"))
		return out.String()
	})
}

// TestIdentity: an identity depends on the place alone, and is written down here because it may never change: initiators
// would lose their disks.
func TestIdentity(t *testing.T) {
	p := Place{Bucket: "bucket", Prefix: "site", Volume: "vm"}
	u := VolumeUUID(p)
	if got, want := u.String(), "2868e9de-f15b-8152-82f3-15209472ca07"; got != want {
		t.Errorf("UUID %s, want %s", got, want)
	}
	if got, want := u.WWN(), "naa.60014052868e9def15b815282f315209"; got != want {
		t.Errorf("WWN %s, want %s", got, want)
	}
	if len(u.Serial()) != 20 {
		t.Errorf("serial %q", u.Serial())
	}
	same := p
	same.Prefix = "/site/"
	if VolumeUUID(same) != u {
		t.Error("slashes around a prefix make another volume")
	}
	for _, other := range []Place{{"bucketsite", "", "vm"}, {"bucket", "sitevm", ""}, {"bucket", "site", "vn"}, {"b", "site", "vm"}} {
		if VolumeUUID(other) == u {
			t.Errorf("%+v has the identity of %+v", other, p)
		}
	}
	if parsed, err := ParseUUID(u.String()); err != nil || parsed != u {
		t.Errorf("parse: %v, %v", parsed, err)
	}
	for _, bad := range []string{"", "x", "00000000-0000-0000-0000-000000000000", u.String() + "0", strings.Replace(u.String(), "6", "g", 1)} {
		if _, err := ParseUUID(bad); err == nil {
			t.Errorf("%q is a UUID", bad)
		}
	}
}

// FuzzList: whatever is configured, what is exported has passed Check or nothing bad comes of it.
func FuzzList(f *testing.F) {
	f.Add([]byte(`{"iscsi": {"exports": [{"volume": "a", "initiators": ["iqn.x:y"], "chap": {"user": "u", "secret": "123456789012"}}]}}`))
	f.Add([]byte(`{"nvme": {"listen": ["[::]:4420"], "exports": [{"volume": "b", "any_host": true, "uuid": "6f1c3a52-0a55-4f60-9f6f-0123456789ab"}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Config
		if json.Unmarshal(data, &c) != nil {
			return
		}
		var v plugin.Validation
		c.Check(&v, "target", volumes())
		seen := map[string]bool{}
		for _, e := range c.List(volumes()) {
			if v.Failed() {
				continue
			}
			if seen[e.Volume] {
				t.Errorf("volume %s is exported twice", e.Volume)
			}
			seen[e.Volume] = true
			for _, s := range append(e.Clients, e.Name) {
				if strings.ContainsAny(s, "/\x00\n") || s == "" || s == "." || s == ".." {
					t.Errorf("%q would be a path", s)
				}
			}
		}
	})
}
