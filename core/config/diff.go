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
	put := func(name string, v any) {
		// Everything in a Config came out of JSON or prints itself as text.
		out[name], _ = json.Marshal(v)
	}
	put("hostname", c.Hostname)
	put("network", c.Network)
	put("time", c.Time)
	put("api", c.API)
	put("tpm", c.TPM)
	for name, p := range c.Plugins {
		put(strict.Join("plugins", name), []any{p, p.Section})
	}
	return out
}
