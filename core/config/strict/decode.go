package strict

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"sort"
	"strings"
)

// Issue is one mistake.
type Issue struct {
	Path    string // as "volumes[0].disk"; "" is the whole document
	Message string // lower case, says what to do
	Key     bool   // the key itself is wrong, not its value
}

func (i Issue) String() string {
	if i.Path == "" {
		return i.Message
	}
	return i.Path + ": " + i.Message
}

// Defaulter is implemented by pointers to structs that are not all zero when nothing is set.
type Defaulter interface{ SetDefaults() }

// maxIssues bounds the report on a document that is wrong from end to end.
const maxIssues = 100

// Decode fills out, a pointer to a struct, from a JSON document and returns every mistake
// it finds, in the order of the struct's fields. Whatever was right is set even when there
// are mistakes, so that the caller can go on to check what depends on it.
func Decode(data []byte, out any) []Issue {
	target := reflect.ValueOf(out)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return []Issue{{Message: fmt.Sprintf("decode into %T: want a pointer", out)}}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte("{}")
	}
	reader := json.NewDecoder(bytes.NewReader(data))
	reader.UseNumber() // 64-bit sizes must not pass through a float
	var tree any
	if err := reader.Decode(&tree); err != nil {
		return []Issue{{Message: fmt.Sprintf("read JSON: %v", err)}}
	}
	if _, err := reader.Token(); err != io.EOF {
		return []Issue{{Message: "read JSON: data after the document"}}
	}
	d := &decoder{}
	d.value("", tree, target.Elem(), rules{})
	return d.issues
}

type decoder struct{ issues []Issue }

func (d *decoder) add(i Issue) {
	if len(d.issues) < maxIssues {
		d.issues = append(d.issues, i)
	}
}

func (d *decoder) errorf(path, format string, args ...any) {
	d.add(Issue{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) value(path string, in any, out reflect.Value, r rules) {
	t := out.Type()
	if t == rawMessage || (t.Kind() == reflect.Interface && t.NumMethod() == 0) {
		d.opaque(path, in, out)
		return
	}
	if t.Kind() == reflect.Pointer {
		if in == nil {
			return
		}
		out.Set(reflect.New(t.Elem()))
		d.value(path, in, out.Elem(), r)
		return
	}
	// "volumes:" with nothing behind it. Silence would hide a forgotten indentation.
	if in == nil {
		d.errorf(path, "has no value; give one or remove the key")
		return
	}
	if u, ok := out.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(path, in, out, u, r)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		d.object(path, in, out)
	case reflect.Map:
		d.table(path, in, out, r)
	case reflect.Slice:
		d.list(path, in, out, r)
	default:
		d.scalar(path, in, out, r)
	}
}

// opaque keeps a subtree as it is, for whoever understands it.
func (d *decoder) opaque(path string, in any, out reflect.Value) {
	if out.Type() != rawMessage {
		if in != nil {
			out.Set(reflect.ValueOf(in))
		}
		return
	}
	raw, err := json.Marshal(in)
	if err != nil {
		d.errorf(path, "keep subtree: %v", err)
		return
	}
	out.SetBytes(raw)
}

func (d *decoder) object(path string, in any, out reflect.Value) {
	if s, ok := out.Addr().Interface().(Defaulter); ok {
		s.SetDefaults()
	}
	keys, ok := in.(map[string]any)
	if !ok {
		d.errorf(path, "expected a group of keys, found %s", found(in))
		return
	}
	o := describe(out.Type())
	for _, key := range o.order {
		f := o.fields[key]
		v, given := keys[key]
		switch {
		case given:
			d.value(Join(path, key), v, out.FieldByIndex(f.index), f.rules)
		case f.rules.required:
			d.errorf(Join(path, key), "%q is required", key)
		}
	}
	d.unknown(path, keys, o, out)
}

func (d *decoder) unknown(path string, keys map[string]any, o object, out reflect.Value) {
	rest := map[string]any{}
	for _, key := range sortedKeys(keys) {
		if _, known := o.fields[key]; known {
			continue
		}
		if o.rest != nil {
			rest[key] = keys[key]
			continue
		}
		if len(d.issues) >= maxIssues {
			return // looking for likely names costs more than all the rest
		}
		message := fmt.Sprintf("unknown field %q", key)
		if path != "" {
			message += " in " + path
		}
		if s := Suggest(key, o.order); s != "" {
			message += fmt.Sprintf(" (did you mean %q?)", s)
		} else if len(o.order) > 0 {
			message += "; known are " + strings.Join(o.order, ", ")
		}
		d.add(Issue{Path: Join(path, key), Message: message, Key: true})
	}
	if o.rest != nil {
		d.opaque(path, rest, out.FieldByIndex(o.rest))
	}
}

func (d *decoder) table(path string, in any, out reflect.Value, r rules) {
	keys, ok := in.(map[string]any)
	if !ok || out.Type().Key().Kind() != reflect.String {
		d.errorf(path, "expected a group of keys, found %s", found(in))
		return
	}
	d.bounds(path, int64(len(keys)), r, "entries")
	m := reflect.MakeMapWithSize(out.Type(), len(keys))
	for _, key := range sortedKeys(keys) {
		e := reflect.New(out.Type().Elem()).Elem()
		d.value(Join(path, key), keys[key], e, rules{})
		m.SetMapIndex(reflect.ValueOf(key).Convert(out.Type().Key()), e)
	}
	out.Set(m)
}

func (d *decoder) list(path string, in any, out reflect.Value, r rules) {
	elements, ok := in.([]any)
	if !ok {
		d.errorf(path, "expected a list, found %s", found(in))
		return
	}
	d.bounds(path, int64(len(elements)), r, "entries")
	s := reflect.MakeSlice(out.Type(), len(elements), len(elements))
	for i, v := range elements {
		// An enumeration on a list restricts its elements.
		d.value(Index(path, i), v, s.Index(i), rules{enum: r.enum})
	}
	out.Set(s)
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// found names a value the way the operator sees it in the file.
func found(in any) string {
	switch v := in.(type) {
	case nil:
		return "nothing"
	case string:
		if len(v) > 40 {
			v = v[:40] + "…"
		}
		return fmt.Sprintf("the text %q", v)
	case json.Number:
		return "the number " + v.String()
	case bool:
		return fmt.Sprintf("%t", v)
	case []any:
		return "a list"
	default:
		return "a group of keys"
	}
}

func (d *decoder) enum(path, value string, r rules) {
	if len(r.enum) == 0 || slices.Contains(r.enum, value) {
		return
	}
	if len(r.enum) == 1 {
		d.errorf(path, "must be %s, found %s", r.enum[0], value)
		return
	}
	hint := ""
	if s := Suggest(value, r.enum); s != "" {
		hint = fmt.Sprintf(" (did you mean %q?)", s)
	}
	d.errorf(path, "%q is not one of %s%s", value, strings.Join(r.enum, ", "), hint)
}
