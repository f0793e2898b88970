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
