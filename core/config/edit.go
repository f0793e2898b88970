package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Op is what an Edit does.
type Op string

// The edits.
const (
	Add    Op = "add"    // append Value to the list at Path, which is made if it is missing
	Set    Op = "set"    // replace the text or number at Path by Value
	Remove Op = "remove" // take the element of a list at Path out
)

// Edit is one change of a document.
type Edit struct {
	Op    Op
	Path  string // as "plugins.gateway.volumes[2].size"
	Value any    // as encoding/json writes it; the keys of a struct keep their order
}

// ErrByHand is wrapped when a document is written in a way that Edit does not dare to change.
var ErrByHand = errors.New("change it by hand: ratchetctl config show > FILE, then ratchetctl config apply FILE")

// Apply returns the document with the change made. Comments, order and layout of everything else stay as they are.
// The result is read back: it means what the document meant before but for the change, or there is an error.
func (e Edit) Apply(data []byte) ([]byte, error) {
	value, text, err := e.value()
	if err != nil {
		return nil, err
	}
	src := newSource("", data)
	before, found := readYAML(src, data)
	if found.Failed() {
		return nil, fmt.Errorf("edit configuration: it has errors: %w", ErrByHand)
	}
	keys := splitPath(e.Path)
	want, err := e.expect(before, keys, value)
	if err != nil {
		return nil, err
	}
	file, err := parseYAML(data)
	if err != nil {
		return nil, err
	}
	d := &document{lines: src.lines}
	for _, doc := range file.Docs {
		if doc.Body != nil && doc.Body.Type() != ast.CommentType {
			err = d.edit(e.Op, doc.Body, keys, text)
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("edit configuration: %s: %w", e.Path, err)
	}
	out := []byte(strings.Join(d.lines, "\n"))
	after, found := readYAML(newSource("", out), out)
	if found.Failed() || !reflect.DeepEqual(after, want) {
		return nil, fmt.Errorf("edit configuration: %s: %w", e.Path, ErrByHand)
	}
	return out, nil
}

// value is the Value as the reader would give it back, and as a tree that keeps the order of keys.
func (e Edit) value() (any, node, error) {
	if e.Op == Remove {
		return nil, node{}, nil
	}
	raw, err := json.Marshal(e.Value)
	if err != nil {
		return nil, node{}, fmt.Errorf("edit configuration: %w", err)
	}
	n, err := readNode(raw)
	if err != nil {
		return nil, node{}, fmt.Errorf("edit configuration: %w", err)
	}
	return n.plain(), n, nil
}

// expect makes the change in the tree of values.
func (e Edit) expect(tree any, keys []any, value any) (any, error) {
	missing := fmt.Errorf("edit configuration: there is nothing at %s", e.Path)
	if len(keys) == 0 {
		if e.Op != Add {
			return value, nil
		}
		list, ok := tree.([]any)
		if !ok && tree != nil {
			return nil, fmt.Errorf("edit configuration: %s is not a list", e.Path)
		}
		return append(slices.Clone(list), value), nil
	}
	switch key := keys[0].(type) {
	case string:
		m, ok := tree.(map[string]any)
		if !ok && (tree != nil || e.Op != Add) {
			return nil, missing
		}
		if _, ok := m[key]; !ok && e.Op != Add {
			return nil, missing
		}
		out := map[string]any{}
		for k, v := range m {
			out[k] = v
		}
		var err error
		out[key], err = e.expect(m[key], keys[1:], value)
		return out, err
	case int:
		list, ok := tree.([]any)
		if !ok || key >= len(list) {
			return nil, missing
		}
		if e.Op == Remove && len(keys) == 1 {
			return slices.Delete(slices.Clone(list), key, key+1), nil
		}
		list = slices.Clone(list)
		var err error
		list[key], err = e.expect(list[key], keys[1:], value)
		return list, err
	}
	return nil, missing
}

// splitPath takes a path of package strict apart into keys and indices.
func splitPath(path string) (keys []any) {
	for part := range strings.SplitSeq(path, ".") {
		name, rest, _ := strings.Cut(part, "[")
		keys = append(keys, name)
		for rest != "" {
			var index string
			index, rest, _ = strings.Cut(rest, "]")
			if n, err := strconv.Atoi(index); err == nil {
				keys = append(keys, n)
			}
			rest = strings.TrimPrefix(rest, "[")
		}
	}
	return keys
}

// node is a JSON value that remembers the order of keys.
type node struct {
	scalar any // string, json.Number, bool, nil
	keys   []string
	items  []node // values of keys, or elements
	group  bool
	list   bool
}

func readNode(raw []byte) (node, error) {
	d := json.NewDecoder(strings.NewReader(string(raw)))
	d.UseNumber()
	return readToken(d)
}

func readToken(d *json.Decoder) (node, error) {
	t, err := d.Token()
	if err != nil {
		return node{}, err
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return node{scalar: t}, nil
	}
	n := node{group: delim == '{', list: delim == '['}
	for d.More() {
		if n.group {
			k, err := d.Token()
			if err != nil {
				return node{}, err
			}
			n.keys = append(n.keys, fmt.Sprint(k))
		}
		item, err := readToken(d)
		if err != nil {
			return node{}, err
		}
		n.items = append(n.items, item)
	}
	_, err = d.Token()
	return n, err
}

// plain is the value as encoding/json would decode it.
func (n node) plain() any {
	switch {
	case n.group:
		m := map[string]any{}
		for i, k := range n.keys {
			m[k] = n.items[i].plain()
		}
		return m
	case n.list:
		l := make([]any, len(n.items))
		for i := range n.items {
			l[i] = n.items[i].plain()
		}
		return l
	}
	return n.scalar
}

// flow writes the value on one line.
func (n node) flow() string {
	var parts []string
	switch {
	case n.group:
		for i, k := range n.keys {
			parts = append(parts, k+": "+n.items[i].flow())
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case n.list:
		for _, i := range n.items {
			parts = append(parts, i.flow())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	if s, ok := n.scalar.(string); ok {
		return quoted(s)
	}
	return fmt.Sprint(n.scalar)
}

// quoted leaves the quotes off where every reader of YAML agrees that it is text.
func quoted(s string) string {
	plain := s != "" && (s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z')
	if n := strings.TrimRight(s, "KMGTiB"); n != s && strings.Trim(n, "0123456789") == "" && n != "" {
		plain = true // a size
	}
	for _, word := range []string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"} {
		plain = plain && !strings.EqualFold(s, word)
	}
	safe := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-") == ""
	if plain && safe && !strings.HasSuffix(s, ":") {
		return s
	}
	return strconv.Quote(s)
}

// block writes the element of a list in as many lines as it has keys.
func (n node) block(indent int) []string {
	pad := strings.Repeat(" ", indent)
	if !n.group || len(n.keys) == 0 {
		return []string{pad + "- " + n.flow()}
	}
	var out []string
	for i, k := range n.keys {
		lead := pad + "  "
		if i == 0 {
			lead = pad + "- "
		}
		out = append(out, lead+k+": "+n.items[i].flow())
	}
	return out
}

// pathOf is for messages.
func pathOf(keys []any) string {
	path := ""
	for _, k := range keys {
		switch k := k.(type) {
		case string:
			path = strict.Join(path, k)
		case int:
			path = strict.Index(path, k)
		}
	}
	return path
}
