package strict

import (
	"encoding/json"
	"reflect"
	"strings"
)

// rules are the options of one field's tags.
type rules struct {
	required    bool
	secret      bool
	enum        []string
	min, max    string // as written; empty is none
	description string
}

// field is one key of an object.
type field struct {
	key   string
	index []int
	rules rules
}

// object is what the fields of a struct type say about its keys.
type object struct {
	fields map[string]field
	order  []string // keys in the order of the struct
	rest   []int    // index of the field that takes unknown keys, nil for none
}

var rawMessage = reflect.TypeFor[json.RawMessage]()

// describe reads the tags of a struct type. Embedded structs without a name of their own
// are flattened, as encoding/json does.
func describe(t reflect.Type) object {
	o := object{fields: map[string]field{}}
	o.collect(t, nil)
	return o
}

func (o *object) collect(t reflect.Type, parent []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		index := append(append([]int(nil), parent...), i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct {
			o.collect(f.Type, index)
			continue
		}
		r, isRest := parseRules(f.Tag)
		if isRest && f.Type == rawMessage {
			o.rest = index
			continue
		}
		if !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		o.fields[name] = field{key: name, index: index, rules: r}
		o.order = append(o.order, name)
	}
}

func parseRules(tag reflect.StructTag) (r rules, rest bool) {
	for option := range strings.SplitSeq(tag.Get("config"), ",") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "required":
			r.required = true
		case "secret":
			r.secret = true
		case "rest":
			rest = true
		case "enum":
			r.enum = strings.Split(value, "|")
		case "min":
			r.min = value
		case "max":
			r.max = value
		}
	}
	// A description may hold commas: it is the last thing in its tag.
	if _, d, ok := strings.Cut(tag.Get("jsonschema"), "description="); ok {
		r.description = d
	}
	return r, rest
}
