package plugin

import (
	"encoding/json"
	"fmt"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
)

// The quantities of a configuration; see package strict.
type (
	// Size is in bytes, written as "64MiB".
	Size = strict.Size
	// Duration is written as "30s".
	Duration = strict.Duration
)

// Decode fills out, a pointer to the plugin's configuration struct, from its section. The
// result holds every mistake of the pass; a feature goes on to add its own and its Wants.
// The struct's tags are described in package strict.
func Decode(section Section, out any) Validation {
	var v Validation
	for _, issue := range strict.Decode(section.JSON, out) {
		v.Diagnostics = append(v.Diagnostics, &pluginpb.Diagnostic{
			Severity: pluginpb.Diagnostic_ERROR, Path: issue.Path, Message: issue.Message, Key: issue.Key,
		})
	}
	return v
}

// Failed reports whether the validation holds an error, as opposed to warnings.
func (v Validation) Failed() bool {
	for _, d := range v.Diagnostics {
		if d.Severity == pluginpb.Diagnostic_ERROR {
			return true
		}
	}
	return false
}

// Schema returns the JSON Schema of a configuration struct, for Configured. A
// struct that cannot be configured yields a schema that says so and accepts nothing, so that
// the mistake shows in the generated documents instead of stopping the plugin.
func Schema(config any) string {
	schema, err := strict.Schema(config)
	if err != nil {
		schema, _ = json.Marshal(map[string]any{"description": fmt.Sprint(err), "not": map[string]any{}})
	}
	return string(schema)
}
