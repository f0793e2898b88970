package config

import (
	"encoding/json"
	"fmt"
	"maps"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// SchemaID is where editors find the schema of this version of the format.
const SchemaID = "https://ratchetos.github.io/schema/appliance-v1.json"

// SchemaDocument is the JSON Schema of a whole document: core's sections and those of the
// given plugins, by name (plugin.SchemaOf). It is the same on every run.
func SchemaDocument(plugins map[string]string) ([]byte, error) {
	document, err := schemaOf(Config{})
	if err != nil {
		return nil, err
	}
	section, err := schemaOf(Plugin{})
	if err != nil {
		return nil, err
	}
	known := map[string]any{}
	for name, own := range plugins {
		if known[name], err = pluginSchema(section, own); err != nil {
			return nil, fmt.Errorf("schema of plugin %s: %w", name, err)
		}
	}
	document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	document["$id"] = SchemaID
	document["title"] = "Ratchet appliance configuration"
	list, ok := document["properties"].(map[string]any)["plugins"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("schema of the configuration has no plugins")
	}
	list["properties"], list["additionalProperties"] = known, section
	out, err := json.MarshalIndent(document, "", "  ")
	return append(out, '\n'), err
}

// pluginSchema is the plugin's own schema with the keys that core reads in the same section.
func pluginSchema(section map[string]any, own string) (map[string]any, error) {
	var schema map[string]any
	if err := json.Unmarshal([]byte(own), &schema); err != nil {
		return nil, err
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		properties = map[string]any{}
	}
	maps.Copy(properties, section["properties"].(map[string]any))
	schema["properties"] = properties
	return schema, nil
}

func schemaOf(v any) (map[string]any, error) {
	text, err := strict.Schema(v)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	return out, json.Unmarshal(text, &out)
}
