package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/ratchetos/ratchet/core/config/strict"
)

const (
	// MaxSize is the largest document, in bytes.
	MaxSize = 1 << 20
	// maxDepth is deeper than any configuration; the YAML library recurses.
	maxDepth = 32
	// maxParts bounds the values: the time of the YAML library grows with the square of the
	// keys in one group. No appliance has a tenth of this.
	maxParts = 4_000
	maxFound = 100
)

// reader turns a YAML document into the values of encoding/json and fills in a Source.
type reader struct {
	src   *Source
	found Diagnostics
}

// readYAML returns nil when the document has no shape to go on with.
func readYAML(src *Source, data []byte) (any, Diagnostics) {
	r := &reader{src: src}
	if d, ok := r.refuse(data); !ok {
		return nil, Diagnostics{d}
	}
	file, err := parseYAML(data)
	if err != nil {
		return nil, Diagnostics{r.syntax(err)}
	}
	docs := file.Docs[:0:0]
	for _, d := range file.Docs {
		if d.Body != nil && d.Body.Type() != ast.CommentType {
			docs = append(docs, d)
		}
	}
	switch len(docs) {
	case 0:
		return nil, Diagnostics{src.diagnostic(Position{1, 1, 1}, Error, "", "the document is empty; the least it needs is: version: 1")}
	case 1:
	default:
		p := r.position(docs[1].Start)
		return nil, Diagnostics{src.diagnostic(p, Error, "", "a second YAML document begins here; a configuration is one document")}
	}
	v := r.value("", docs[0].Body, 0)
	if v == nil && !r.found.Failed() {
		r.errorf(Position{1, 1, 1}, "", "the document says nothing; the least it needs is: version: 1")
	}
	return v, r.found
}

// refuse looks at the bytes before a recursive parser does.
func (r *reader) refuse(data []byte) (Diagnostic, bool) {
	whole := func(format string, args ...any) (Diagnostic, bool) {
		return r.src.diagnostic(Position{1, 1, 1}, Error, "", fmt.Sprintf(format, args...)), false
	}
	switch {
	case len(data) > MaxSize:
		return whole("the document has %d bytes; at most %d are read", len(data), MaxSize)
	case !utf8.Valid(data):
		return whole("the document is not UTF-8 text")
	}
	depth, documents, parts := 0, 0, 0
	for n, line := range r.src.lines {
		// The parser's time grows with the square of the number of documents.
		if strings.HasPrefix(line, "---") {
			if documents++; documents > 4 {
				return r.src.diagnostic(Position{n + 1, 1, 3}, Error, "", "too many YAML documents; a configuration is one"), false
			}
		}
		if text := strings.TrimSpace(line); text != "" && text[0] != '#' {
			parts += 1 + strings.Count(text, ",")
		}
		if parts > maxParts {
			return r.src.diagnostic(Position{n + 1, 1, 1}, Error, "", fmt.Sprintf("more than %d values; a configuration is not that long", maxParts)), false
		}
		for i, c := range line {
			switch {
			case c == '[' || c == '{':
				depth++
			case (c == ']' || c == '}') && depth > 0:
				depth--
			case c < ' ' && c != '\t' || c == 0x7f || c == '\u0085' || c == '\u2028' || c == '\u2029':
				p := Position{n + 1, utf8.RuneCountInString(line[:i]) + 1, 1}
				return r.src.diagnostic(p, Error, "", fmt.Sprintf("control character %U; remove it", c)), false
			}
			if depth > 2*maxDepth {
				return r.src.diagnostic(Position{n + 1, utf8.RuneCountInString(line[:i]) + 1, 1}, Error, "", "nested too deeply"), false
			}
		}
		// "- - - - x" nests without brackets.
		if strings.Count(line[:min(len(line), 8*maxDepth)], "- ") > 2*maxDepth {
			return r.src.diagnostic(Position{n + 1, 1, 1}, Error, "", "nested too deeply"), false
		}
	}
	return Diagnostic{}, true
}

// parseYAML keeps a panic of the library on a document it does not expect from ending core.
func parseYAML(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the YAML parser gave up: %v", p)
		}
	}()
	// Duplicate keys are found by this package: the parser would stop at the first.
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

func (r *reader) syntax(err error) Diagnostic {
	var located interface {
		GetMessage() string
		GetToken() *token.Token
	}
	if errors.As(err, &located) && located.GetToken() != nil {
		return r.src.diagnostic(r.position(located.GetToken()), Error, "", "YAML syntax: "+located.GetMessage())
	}
	return r.src.diagnostic(Position{1, 1, 1}, Error, "", "YAML syntax: "+err.Error())
}

func (r *reader) position(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{1, 1, 1}
	}
	width := utf8.RuneCountInString(t.Value)
	switch t.Type {
	case token.SingleQuoteType, token.DoubleQuoteType:
		width += 2
	}
	return Position{t.Position.Line, t.Position.Column, width}
}

func (r *reader) errorf(p Position, path, format string, args ...any) {
	if len(r.found) < maxFound {
		r.found = append(r.found, r.src.diagnostic(p, Error, path, fmt.Sprintf(format, args...)))
	}
}

func (r *reader) value(path string, n ast.Node, depth int) any {
	if n == nil {
		return nil
	}
	p := r.position(n.GetToken())
	if depth > maxDepth {
		r.errorf(p, path, "nested too deeply")
		return nil
	}
	if _, ok := r.src.values[path]; !ok {
		r.src.values[path] = p
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.mapping(path, n.Values, depth)
	case *ast.MappingValueNode:
		return r.mapping(path, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		list := make([]any, 0, len(n.Values))
		for i, v := range n.Values {
			list = append(list, r.value(strict.Index(path, i), v, depth+1))
		}
		return list
	}
	return r.scalar(path, n, p)
}

func (r *reader) mapping(path string, pairs []*ast.MappingValueNode, depth int) any {
	// The token of a group is the colon of its first pair; people look for its first key.
	if len(pairs) > 0 {
		r.src.values[path] = r.position(pairs[0].Key.GetToken())
	}
	object := map[string]any{}
	first := map[string]Position{}
	for _, pair := range pairs {
		p := r.position(pair.Key.GetToken())
		key, ok := r.key(path, pair.Key, p)
		if !ok {
			continue
		}
		if at, seen := first[key]; seen {
			r.errorf(p, strict.Join(path, key), "key %q is given twice; first at line %d, column %d", key, at.Line, at.Column)
			continue
		}
		first[key] = p
		at := strict.Join(path, key)
		r.src.keys[at] = p
		object[key] = r.value(at, pair.Value, depth+1)
		// What has no text of its own is shown at its key.
		switch pair.Value.(type) {
		case *ast.NullNode, *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
			r.src.values[at] = p
		}
	}
	return object
}

func (r *reader) key(path string, n ast.MapKeyNode, p Position) (string, bool) {
	if _, ok := n.(*ast.MergeKeyNode); ok {
		r.errorf(p, path, "merge keys (<<) are not read; write the values out")
		return "", false
	}
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true // 1: and true: are the words "1" and "true" here
	}
	r.errorf(p, path, "a key must be a plain word")
	return "", false
}

// scalar returns nil for what it refuses; the finding is made already.
func (r *reader) scalar(path string, n ast.Node, p Position) any {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.BoolNode:
		return n.Value
	case *ast.NullNode:
		return nil
	case *ast.IntegerNode:
		return r.integer(path, n, p)
	case *ast.FloatNode:
		if math.IsInf(n.Value, 0) || math.IsNaN(n.Value) {
			r.errorf(p, path, "%s is out of range", n.GetToken().Value)
			return json.Number("0")
		}
		return json.Number(strconv.FormatFloat(n.Value, 'g', -1, 64))
	case *ast.AnchorNode, *ast.AliasNode:
		r.errorf(p, path, "anchors and aliases (& and *) are not read; write the value out, or put it in quotes if it is text")
	case *ast.TagNode:
		r.errorf(p, path, "tags (!) are not read; put the value in quotes if it is text")
	default:
		r.errorf(p, path, "%s is not read; write a text, number, list or group", strings.ToLower(n.Type().String()))
	}
	return nil
}

// integer refuses the notations that people and YAML versions read differently: 010 is 8 to
// one and 10 to another.
func (r *reader) integer(path string, n *ast.IntegerNode, p Position) any {
	text := strings.TrimLeft(n.GetToken().Value, "+-")
	if len(text) > 1 && text[0] == '0' || strings.ContainsRune(text, '_') {
		r.errorf(p, path, "write %s as a decimal number, or in quotes if it is text", n.GetToken().Value)
		return json.Number("0")
	}
	return json.Number(fmt.Sprint(n.Value))
}
