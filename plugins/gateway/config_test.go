package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/core/plugin"
)

// TestConfig runs testdata/config.txt: a section and what Validate says of it.
func TestConfig(t *testing.T) {
	datadriven.RunTest(t, "testdata/config.txt", func(t *testing.T, d *datadriven.TestData) string {
		v := New().Validate(t.Context(), plugin.Section{JSON: []byte(d.Input)})
		var out strings.Builder
		for _, d := range v.Diagnostics {
			fmt.Fprintf(&out, "%s %s: %s\n", strings.ToLower(d.Severity.String()), d.Path, d.Message)
		}
		for _, w := range v.Wants {
			fmt.Fprintf(&out, "want %s %s for %s", w.Kind, w.Selector, w.Path)
			if w.Optional {
				out.WriteString(", optional")
			}
			out.WriteString("\n")
		}
		return out.String()
	})
}

func TestDescribe(t *testing.T) {
	d := New().Describe()
	if schema := plugin.SchemaOf(New()); !json.Valid([]byte(schema)) || !strings.Contains(schema, "max_batch") {
		t.Errorf("schema: %s", schema)
	}
	if !d.WarmSpare || len(d.Methods) != len(commands()) {
		t.Errorf("descriptor: %+v", d)
	}
}
