package firmware

import (
	"strings"
	"testing"
)

func TestVersions(t *testing.T) {
	several := []Component{
		{Name: "fw.psid", Running: "K1", Fixed: true}, {Name: "fw.undi", Running: "2.0"}, {Name: "fw.app", Running: "1.0 beta", Stored: "1.1"}, {Name: "fw.none"},
	}
	one := []Component{{Running: "7.0 rc1", Slots: []Slot{{}}}}
	for _, tt := range []struct{ what, got, want string }{
		{"running", Running(several), "fw.app 1.0 beta, fw.undi 2.0"},
		{"stored", Stored(several), "fw.app 1.1, fw.undi 2.0"},
		{"expected", Expected(several, map[string]string{"fw.undi": "3"}), "fw.app 1.0 beta, fw.undi 3"},
		{"one running", Running(one), "7.0 rc1"},
		{"one expected", Expected(one, map[string]string{"": "8"}), "8"},
		{"nothing", Running(nil), ""},
		{"clean", Clean(" a\x00\n b\xc3 "), "a b"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	a, b := Clean(strings.Repeat("a", 300)), Clean(strings.Repeat("a", 301))
	if len(a) > maxVersion || a == b || a != Clean(a) {
		t.Errorf("long versions: %q and %q", a, b)
	}
}
