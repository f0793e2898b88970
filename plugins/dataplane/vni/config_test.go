package vni

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/core/plugin"
)

// TestConfig runs testdata/config.txt: a section of a box (vnis) or of an agent (attachments), and what is wrong with it.
func TestConfig(t *testing.T) {
	datadriven.RunTest(t, "testdata/config.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		switch d.Cmd {
		case "vnis":
			var c Config
			decode(&out, d.Input, &c)
			v := &plugin.Validation{}
			Parse("vnis", c, v)
			for _, g := range v.Diagnostics {
				fmt.Fprintf(&out, "%s: %s\n", g.Path, g.Message)
			}
		case "attachments":
			var c AgentConfig
			decode(&out, d.Input, &c)
			c.Check("attachments", func(path, format string, args ...any) {
				fmt.Fprintf(&out, "%s: %s\n", path, fmt.Sprintf(format, args...))
			})
		}
		if out.Len() == 0 {
			return "ok\n"
		}
		return out.String()
	})
}

func decode(out *strings.Builder, text string, to any) {
	for _, i := range strict.Decode([]byte(text), to) {
		fmt.Fprintln(out, i)
	}
}

// More than a host's beat or its fence has room for is refused: its agent could not carry the assignment out.
func TestConfigFitsAHost(t *testing.T) {
	section := func(interfaces, candidates, addresses int) Config {
		c := Config{}
		for n := range interfaces {
			i := InterfaceConfig{ID: n + 1, MAC: fmt.Sprintf("02:00:00:00:%02x:%02x", n>>8, n&0xff)}
			for k := range candidates {
				i.Candidates = append(i.Candidates, CandidateConfig{Host: "h1", Instance: fmt.Sprint(k)})
			}
			for k := range addresses {
				i.Addresses = append(i.Addresses, fmt.Sprintf("10.%d.%d.%d", n>>8, n&0xff, k))
			}
			c.Interfaces = append(c.Interfaces, i)
		}
		return c
	}
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"as many as there is room for": {section(4096, 1, 4), ""},
		"a beat":                       {section(2049, 2, 0), "host h1 is a candidate 4098 times: at most 4096"},
		"a fence":                      {section(4096, 1, 5), "20480 addresses: at most 16384"},
	} {
		v := &plugin.Validation{}
		Parse("vnis", c.config, v)
		got := ""
		for _, d := range v.Diagnostics {
			got += d.Path + ": " + d.Message + "\n"
		}
		if want := c.want; (want == "") != (got == "") || want != "" && got != "vnis.interfaces: "+want+"\n" {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
