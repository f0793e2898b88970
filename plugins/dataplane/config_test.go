package dataplane

import (
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/plugin"
)

// TestValidate: each section gives all of its errors in one pass, each at its path.
func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name, section string
		want          []string // "path: part of the message"
	}{
		{"empty", `{}`, nil},
		{"whole", `{"links":[{"nic":"mac:52:54:00:00:00:01","name":"wan0","mtu":9000,"addresses":["192.0.2.1/24","2001:db8::1/64"],
			"routes":[{"to":"default","via":"192.0.2.254"},{"to":"198.51.100.0/24","metric":5}]}]}`, nil},
		{"no nic", `{"links":[{"name":"a"}]}`, []string{"links[0].nic: "}},
		{"unknown key", `{"links":[{"nic":"mac:1","adresses":[]}]}`, []string{"links[0].adresses: "}},
		{"agents", `{"agents":{"listen":":7400"}}`, nil},
		{"agents at an address", `{"agents":{"listen":"[2001:db8::1]:7400"}}`, nil},
		{"agents nowhere", `{"agents":{}}`, []string{"agents.listen: "}},
		{"agents by name", `{"agents":{"listen":"box-1:7400"}}`, []string{"agents.listen: \"box-1\" is not an address"}},
		{"agents without a port", `{"agents":{"listen":"192.0.2.1"}}`, []string{"agents.listen: \"192.0.2.1\" is not ADDRESS:PORT"}},
		{"agents on any port", `{"agents":{"listen":":0"}}`, []string{"agents.listen: "}},
		{"one NIC twice", `{"links":[{"nic":"mac:1"},{"nic":"mac:1"}]}`, []string{"links[1].nic: NIC mac:1 is already taken by links[0]"}},
		{
			"names", `{"links":[{"nic":"mac:1","name":"a/b"},{"nic":"mac:2","name":"lo"},{"nic":"mac:3","name":"sixteen-letters!"},{"nic":"mac:4","name":"lo"}]}`,
			[]string{"links[0].name: ", "links[1].name: ", "links[2].name: ", "links[3].name: name \"lo\" is already used", "links[3].name: name \"lo\" is reserved"},
		},
		{
			"addresses", `{"links":[{"nic":"mac:1","addresses":["192.0.2.1","192.0.2.1/24","192.0.2.1/25","ff02::1/64","0.0.0.0/0"]}]}`,
			[]string{"links[0].addresses[0]: ", "links[0].addresses[2]: address 192.0.2.1 is already used", "links[0].addresses[3]: ", "links[0].addresses[4]: "},
		},
		{
			"mtu", `{"links":[{"nic":"mac:1","mtu":67},{"nic":"mac:2","mtu":1000,"addresses":["2001:db8::1/64"]},{"nic":"mac:3","mtu":9217}]}`,
			[]string{"links[0].mtu: mtu 67 is outside 68", "links[1].mtu: mtu 1000 is outside 1280", "links[2].mtu: "},
		},
		{
			"routes", `{"links":[{"nic":"mac:1","addresses":["192.0.2.1/24"],"routes":[{"to":"default"},{"to":"198.51.100.1/24","via":"192.0.2.2"},
			{"to":"198.51.100.0/24","via":"10.0.0.1"},{"to":"2001:db8::/32","via":"192.0.2.2"},{"via":"192.0.2.2"},{"to":"x","via":"y"}]}]}`,
			[]string{
				"links[0].routes[0].to: a default route needs via", "links[0].routes[1].to: destination 198.51.100.1/24 has host bits set; did you mean 198.51.100.0/24?",
				"links[0].routes[2].via: gateway 10.0.0.1 is not in the network", "links[0].routes[3]: ", "links[0].routes[4].to: ", "links[0].routes[5].via: ",
			},
		},
		{
			"one destination twice", `{"links":[{"nic":"mac:1","addresses":["192.0.2.1/24","2001:db8::1/64"],"routes":[
			{"to":"default","via":"192.0.2.254"},{"to":"default","via":"192.0.2.253","metric":5},{"to":"default","via":"2001:db8::2"}]},
			{"nic":"mac:2","addresses":["198.51.100.1/24","2001:db8:1::1/64"],"routes":[
			{"to":"default","via":"198.51.100.254"},{"to":"::/0","via":"2001:db8:1::2","metric":1024},{"to":"default","via":"198.51.100.253","metric":6}]}]}`,
			[]string{
				"links[1].routes[0]: destination 0.0.0.0/0 is already links[0].routes[0]'s, with the same metric",
				"links[1].routes[1]: destination ::/0 is already links[0].routes[2]'s, with the same metric",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, v := parse(plugin.Section{JSON: []byte(c.section)})
			var got []string
			for _, d := range v.Diagnostics {
				got = append(got, d.Path+": "+d.Message)
			}
			for _, w := range c.want {
				if i := find(got, w); i < 0 {
					t.Errorf("no error %q in\n  %s", w, strings.Join(got, "\n  "))
				} else {
					got = append(got[:i], got[i+1:]...)
				}
			}
			if len(got) > 0 {
				t.Errorf("unexpected:\n  %s", strings.Join(got, "\n  "))
			}
		})
	}
}

func find(all []string, prefix string) int {
	for i, s := range all {
		if strings.HasPrefix(s, prefix) {
			return i
		}
	}
	return -1
}
