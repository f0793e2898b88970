package strict

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// SizePattern and DurationPattern are what an editor accepts for the two types.
const (
	SizePattern     = `^[0-9]+ ?([kKMGT](iB)?|B)?$`
	DurationPattern = `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$`
)

// maxDepth stops a type that contains itself; a configuration is a tree a person reads.
const maxDepth = 16

// Schema returns the JSON Schema (draft 2020-12) of the documents that Decode accepts into v,
// a struct or a pointer to one. The result is the same on every run.
func Schema(v any) ([]byte, error) {
	t := reflect.TypeOf(v)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("describe %T: want a struct", v)
	}
	s, err := schemaOf(t, rules{}, 0)
	if err != nil {
		return nil, fmt.Errorf("describe %T: %w", v, err)
	}
	return json.MarshalIndent(s, "", "  ")
}

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

func schemaOf(t reflect.Type, r rules, depth int) (map[string]any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("type %s is nested deeper than %d", t, maxDepth)
	}
	s := map[string]any{}
	if r.description != "" {
		s["description"] = r.description
	}
	if r.secret {
		s["writeOnly"] = true
	}
	var err error
	switch {
	case t == rawMessage || t.Kind() == reflect.Interface:
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), r, depth)
	case t == sizeType:
		s["type"], s["pattern"], s["minimum"] = []string{"string", "integer"}, SizePattern, 0
	case t == durationType:
		s["type"], s["pattern"] = "string", DurationPattern
	case reflect.PointerTo(t).Implements(textUnmarshaler):
		s["type"] = "string"
		if form := textForms[t]; form != "" && r.description == "" {
			s["description"] = form
		}
	case t.Kind() == reflect.Struct:
		err = objectSchema(s, t, depth)
	case t.Kind() == reflect.Map:
		s["type"] = "object"
		s["additionalProperties"], err = schemaOf(t.Elem(), rules{}, depth+1)
	case t.Kind() == reflect.Slice:
		s["type"] = "array"
		s["items"], err = schemaOf(t.Elem(), rules{enum: r.enum}, depth+1)
		setLimits(s, r, "minItems", "maxItems")
	default:
		err = scalarSchema(s, t, r)
	}
	if len(r.enum) > 0 && s["type"] == "string" {
		s["enum"] = r.enum
	}
	return s, err
}

func scalarSchema(s map[string]any, t reflect.Type, r rules) error {
	switch t.Kind() {
	case reflect.String:
		s["type"] = "string"
		if r.required {
			s["minLength"] = 1
		}
	case reflect.Bool:
		s["type"] = "boolean"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s["type"], s["minimum"] = "integer", 0
		if bits := t.Bits(); bits < 64 {
			s["maximum"] = uint64(1)<<bits - 1
		}
		setLimits(s, r, "minimum", "maximum")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s["type"] = "integer"
		setLimits(s, r, "minimum", "maximum")
	case reflect.Float32, reflect.Float64:
		s["type"] = "number"
		setLimits(s, r, "minimum", "maximum")
	default:
		return fmt.Errorf("a configuration cannot hold the Go type %s", t)
	}
	if len(r.enum) > 0 && s["type"] == "integer" {
		s["enum"] = numbers(r.enum)
	}
	return nil
}

func setLimits(s map[string]any, r rules, low, high string) {
	if _, err := strconv.ParseFloat(r.min, 64); err == nil {
		s[low] = json.Number(r.min)
	}
	if _, err := strconv.ParseFloat(r.max, 64); err == nil {
		s[high] = json.Number(r.max)
	}
}

func numbers(words []string) []json.Number {
	out := make([]json.Number, len(words))
	for i, w := range words {
		out[i] = json.Number(w)
	}
	return out
}

func objectSchema(s map[string]any, t reflect.Type, depth int) error {
	o := describe(t)
	properties := map[string]any{}
	var required []string
	defaults := reflect.New(t)
	if d, ok := defaults.Interface().(Defaulter); ok {
		d.SetDefaults()
	}
	for _, key := range o.order {
		f := o.fields[key]
		p, err := schemaOf(t.FieldByIndex(f.index).Type, f.rules, depth+1)
		if err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		// A group's defaults are shown at its keys.
		if v := defaults.Elem().FieldByIndex(f.index); !v.IsZero() && p["properties"] == nil {
			p["default"] = v.Interface()
		}
		properties[key] = p
		if f.rules.required {
			required = append(required, key)
		}
	}
	s["type"], s["properties"], s["additionalProperties"] = "object", properties, o.rest != nil
	if len(required) > 0 {
		slices.Sort(required)
		s["required"] = required
	}
	return nil
}
