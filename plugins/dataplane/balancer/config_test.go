package balancer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/goccy/go-yaml"

	"github.com/ratchetos/ratchet/core/plugin"
)

// TestConfig runs testdata/config.txt: a section in YAML, and either what is wrong with it or what it means.
func TestConfig(t *testing.T) {
	datadriven.RunTest(t, "testdata/config.txt", func(t *testing.T, d *datadriven.TestData) string {
		asJSON, err := yaml.YAMLToJSON([]byte(d.Input))
		if err != nil {
			t.Fatal(err)
		}
		var c Config
		v := plugin.Decode(plugin.Section{JSON: asJSON}, &c)
		desired := Parse("balancer", c, &v)
		var out strings.Builder
		for _, e := range v.Diagnostics {
			fmt.Fprintf(&out, "%s: %s\n", e.Path, e.Message)
		}
		if out.Len() > 0 {
			return out.String()
		}
		fmt.Fprintf(&out, "%s, %d flows, %v, MTU %d, announce %d\n", desired.Interface, desired.Flows, desired.Encapsulation, desired.MTU, desired.Announce.Mode)
		for _, p := range desired.Peers {
			fmt.Fprintf(&out, "peer %s at %s\n", p.Name, p.Address)
		}
		for _, n := range desired.Announce.BGP.Neighbours {
			fmt.Fprintf(&out, "neighbour %v of AS %d, hold %v, restart %v\n", n.Address, n.AS, desired.Announce.BGP.HoldTime, desired.Announce.BGP.RestartTime)
		}
		for _, p := range desired.VIPs {
			fmt.Fprintf(&out, "%s: %v %v %s exhausted %d, component %s, TTL %v\n", p.Name, p.Key.Address, p.Key.Protocol, portsOf(p.Key), p.Key.Exhausted, p.Component, p.ReportTTL)
			if p.Check != nil {
				fmt.Fprintf(&out, "  check %v every %v within %v, %d up, %d down\n", p.Check, p.Check.Interval, p.Check.Timeout, p.Check.Rise, p.Check.Fall)
			}
			for _, b := range p.Backends {
				fmt.Fprintf(&out, "  %s weight %d limit %d\n", b.name(), b.Weight, b.Limit)
			}
		}
		return out.String()
	})
}

func TestRingSizes(t *testing.T) {
	for _, c := range []struct{ vips, backends, first int }{
		{1, 1, 251}, {1, 10, 1021}, {1, 100, 16381}, {1, 1000, 65521}, {1000, 20, 251}, {4096, 3, 251},
	} {
		vips := make([]*vip, c.vips)
		for i := range vips {
			vips[i] = &vip{members: make([]member, c.backends)}
		}
		sizes, total := ringSizes(vips), 0
		for _, s := range sizes {
			total += (s + 31) / 32 * 32
			if s < 2*c.backends {
				t.Errorf("%d VIPs with %d backends: a ring of %d", c.vips, c.backends, s)
			}
		}
		if sizes[0] != c.first || total > ringSlots {
			t.Errorf("%d VIPs with %d backends: rings from %d, %d places in all", c.vips, c.backends, sizes[0], total)
		}
	}
}
