package config

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Diff names the sections in which two configurations differ, sorted: "hostname", "network",
// "plugins.gateway". What is written differently but means the same is no difference. A nil
// configuration is the empty one.
func Diff(before, after *Config) []string {
	a, b := sections(before), sections(after)
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	var changed []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !bytes.Equal(a[k], b[k]) {
			changed = append(changed, k)
		}
	}
	return changed
}

// sections writes each section in its canonical form; encoding/json sorts keys.
func sections(c *Config) map[string][]byte {
	out := map[string][]byte{}
	if c == nil {
		return out
	}
	// Everything in a Config came out of JSON or prints itself as text.
	document, _ := json.Marshal(c)
	var own map[string]json.RawMessage
	_ = json.Unmarshal(document, &own)
	for name, section := range own {
		if name != "version" && name != "plugins" {
			out[name] = section
		}
	}
	for name, p := range c.Plugins {
		out[strict.Join("plugins", name)], _ = json.Marshal([]any{p, p.Section})
	}
	return out
}
