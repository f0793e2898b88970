package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestEdit runs testdata/edit.txt: the document, after "edit", what to do with it and what comes out.
func TestEdit(t *testing.T) {
	datadriven.RunTest(t, "testdata/edit.txt", func(t *testing.T, d *datadriven.TestData) string {
		e := Edit{Op: Op(d.Cmd)}
		d.ScanArgs(t, "path", &e.Path)
		document, value, some := strings.Cut(d.Input, "\n=\n")
		if some {
			e.Value = json.RawMessage(value)
		}
		out, err := e.Apply([]byte(document))
		if err != nil {
			return fmt.Sprintf("error: %v\n", err)
		}
		return string(out) + "\n"
	})
}

// FuzzEdit: whatever the document, an edit fails or changes nothing but what it was asked for, which Apply compares
// itself; here it must not panic, and what it took out of a list can be put back.
func FuzzEdit(f *testing.F) {
	for _, s := range []string{
		"version: 1\nplugins:\n  gateway:\n    volumes:\n      - {name: a}\n      # b\n      - name: b\n        size: 1GiB\n",
		"plugins: {gateway: {volumes: []}}", "plugins:\n  gateway:\n    volumes:\n    - a\n    -\n      name: b\n", "plugins:\n  gateway:\n",
		"plugins:\n  gateway:\n    volumes: [ {name: x},\n  {name: y} ]", "a: |\n  - b\nplugins:\n", "\"plugins\": {}",
	} {
		f.Add([]byte(s), 1)
	}
	const list = "plugins.gateway.volumes"
	f.Fuzz(func(_ *testing.T, data []byte, i int) {
		if i < 0 || i > 1000 {
			return
		}
		if out, err := (Edit{Op: Add, Path: list, Value: map[string]string{"name": "n"}}).Apply(data); err == nil {
			_, _ = Edit{Op: Remove, Path: list + "[0]"}.Apply(out)
		}
		_, _ = Edit{Op: Set, Path: fmt.Sprintf("%s[%d].size", list, i), Value: "1GiB"}.Apply(data)
		_, _ = Edit{Op: Remove, Path: fmt.Sprintf("%s[%d]", list, i)}.Apply(data)
	})
}
