package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// document is a text whose lines are spliced where the parser found things. What it cannot place it refuses; that it
// placed right is checked by reading the result.
type document struct{ lines []string }

// edit goes down the path as far as the document has it.
func (d *document) edit(op Op, n ast.Node, keys []any, text node) error {
	for i, key := range keys {
		if op == Remove && i == len(keys)-1 {
			return d.remove(n, key)
		}
		next, entry := child(n, key)
		if s, ok := next.(*ast.SequenceNode); ok && op == Add && i == len(keys)-1 && len(s.Values) == 0 && d.unfold(entry, s) {
			return d.fill(entry, missing(nil, text))
		}
		if next == nil || next.Type() == ast.NullType {
			if op != Add {
				return fmt.Errorf("%s has no value of its own: %w", pathOf(keys[:i+1]), ErrByHand)
			}
			if entry != nil { // "volumes:" with nothing behind it
				return d.fill(entry, missing(keys[i+1:], text))
			}
			name, ok := key.(string)
			if !ok {
				return ErrByHand
			}
			return d.addKey(n, name, missing(keys[i+1:], text))
		}
		n = next
	}
	if op == Set {
		return d.replace(n, text)
	}
	return d.appendTo(n, text)
}

// child is the value of a key or an element, and the pair that holds it.
func child(n ast.Node, key any) (ast.Node, *ast.MappingValueNode) {
	switch key := key.(type) {
	case string:
		for _, p := range pairs(n) {
			if p.Key.GetToken().Value == key {
				return p.Value, p
			}
		}
	case int:
		if s, ok := n.(*ast.SequenceNode); ok && key < len(s.Values) {
			return s.Values[key], nil
		}
	}
	return nil, nil
}

func pairs(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// missing builds what is not there yet around the new element of a list.
func missing(keys []any, element node) node {
	if len(keys) == 0 {
		return node{list: true, items: []node{element}}
	}
	name, _ := keys[0].(string)
	return node{group: true, keys: []string{name}, items: []node{missing(keys[1:], element)}}
}

// lines writes a value under a key, lists in block style.
func (n node) lines(key string, indent int) []string {
	out := []string{strings.Repeat(" ", indent) + key + ":"}
	switch {
	case n.list && len(n.items) > 0:
		for _, i := range n.items {
			out = append(out, i.block(indent+2)...)
		}
	case n.group && len(n.keys) > 0:
		for i, k := range n.keys {
			out = append(out, n.items[i].lines(k, indent+2)...)
		}
	default:
		out[0] += " " + n.flow()
	}
	return out
}

func place(t *token.Token) (line, column int) { return t.Position.Line - 1, t.Position.Column - 1 }

// indent is that of a line, -1 for one that holds nothing but a comment or spaces.
func indent(line string) int {
	text := strings.TrimLeft(line, " ")
	if text == "" || text[0] == '#' {
		return -1
	}
	return len(line) - len(text)
}

// end is the line behind a block that begins at line and is indented by more than limit, without the comments and empty
// lines that follow it.
func (d *document) end(line, limit int) int {
	last := line
	for i := line + 1; i < len(d.lines); i++ {
		in := indent(d.lines[i])
		if in >= 0 && in <= limit {
			break
		}
		if in >= 0 {
			last = i
		}
	}
	return last + 1
}

func (d *document) insert(at int, lines ...string) { d.lines = slices.Insert(d.lines, at, lines...) }

// put replaces part of a line.
func (d *document) put(line, from, to int, text string) error {
	if line < 0 || line >= len(d.lines) {
		return ErrByHand
	}
	runes := []rune(d.lines[line])
	if from < 0 || from > to || to > len(runes) {
		return ErrByHand
	}
	d.lines[line] = string(runes[:from]) + text + string(runes[to:])
	return nil
}

// replace sets a scalar that stands on one line.
func (d *document) replace(n ast.Node, text node) error {
	t := n.GetToken()
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
	default:
		return ErrByHand
	}
	line, column := place(t)
	width := len([]rune(t.Value))
	if t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
		width += 2
	}
	return d.put(line, column, column+width, text.flow())
}

// fill gives a key its first value.
func (d *document) fill(pair *ast.MappingValueNode, value node) error {
	line, column := place(pair.Key.GetToken())
	if pair.IsFlowStyle || !strings.HasSuffix(strings.TrimRight(strings.Split(d.lines[line], " #")[0], " "), ":") {
		return ErrByHand
	}
	lines := value.lines(pair.Key.GetToken().Value, column)
	d.insert(line+1, lines[1:]...)
	return nil
}

// addKey adds a key to a group.
func (d *document) addKey(n ast.Node, key string, value node) error {
	if m, ok := n.(*ast.MappingNode); ok && m.IsFlowStyle {
		return d.addFlow(m.End, len(m.Values) > 0, key+": "+value.flow())
	}
	all := pairs(n)
	if len(all) == 0 {
		return ErrByHand
	}
	line, column := place(all[len(all)-1].Key.GetToken())
	d.insert(d.end(line, column), value.lines(key, column)...)
	return nil
}

// appendTo adds an element to a list.
func (d *document) appendTo(n ast.Node, element node) error {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		return ErrByHand
	}
	if s.IsFlowStyle {
		return d.addFlow(s.End, len(s.Values) > 0, element.flow())
	}
	if len(s.Entries) == 0 {
		return ErrByHand
	}
	line, column := place(s.Entries[len(s.Entries)-1].Start)
	d.insert(d.end(line, column), element.block(column)...)
	return nil
}

// addFlow writes text before a closing bracket.
func (d *document) addFlow(end *token.Token, more bool, text string) error {
	if end == nil {
		return ErrByHand
	}
	if more {
		text = ", " + text
	}
	line, column := place(end)
	for column > 0 && d.lines[line][:column] != strings.TrimRight(d.lines[line][:column], " ") {
		column-- // "[ a ]"
	}
	return d.put(line, column, column, text)
}

// remove takes an element out, with the comment above it.
func (d *document) remove(n ast.Node, key any) error {
	s, ok := n.(*ast.SequenceNode)
	i, isIndex := key.(int)
	if !ok || !isIndex || i >= len(s.Values) {
		return ErrByHand
	}
	if s.IsFlowStyle {
		return d.removeFlow(s, i)
	}
	if i >= len(s.Entries) {
		return ErrByHand
	}
	line, column := place(s.Entries[i].Start)
	end := d.end(line, column)
	begin := line
	for begin > 0 && strings.HasPrefix(strings.TrimLeft(d.lines[begin-1], " "), "#") && i > 0 {
		begin--
	}
	d.lines = slices.Delete(d.lines, begin, end)
	if len(s.Values) > 1 {
		return nil
	}
	// The list is empty now, which has to be said.
	for up := line - 1; up >= 0; up-- {
		if in := indent(d.lines[up]); in >= 0 {
			d.lines[up] = strings.TrimRight(d.lines[up], " ") + " []"
			break
		}
	}
	return nil
}

// removeFlow takes an element out of a list between brackets on one line, with the comma that goes with it.
func (d *document) removeFlow(s *ast.SequenceNode, i int) error {
	begin := func(n ast.Node) (line, column int) {
		if m, ok := n.(*ast.MappingNode); ok {
			return place(m.Start) // its own token is the colon of the first pair
		}
		return place(n.GetToken())
	}
	if s.End == nil {
		return ErrByHand
	}
	line, from := begin(s.Values[i])
	last, to := place(s.End)
	if i+1 < len(s.Values) {
		last, to = begin(s.Values[i+1])
	} else if before := strings.TrimRight(d.before(line, from), " "); i > 0 && strings.HasSuffix(before, ",") {
		from = len([]rune(before)) - 1
	}
	if last != line {
		return ErrByHand
	}
	return d.put(line, from, to, "")
}

// before is what stands on a line left of a column.
func (d *document) before(line, column int) string {
	if line < 0 || line >= len(d.lines) {
		return ""
	}
	runes := []rune(d.lines[line])
	return string(runes[:min(max(column, 0), len(runes))])
}

// unfold takes the empty brackets behind a key of a group in block style away, so that elements can stand below it.
func (d *document) unfold(pair *ast.MappingValueNode, s *ast.SequenceNode) bool {
	if pair == nil || !s.IsFlowStyle || pair.IsFlowStyle || s.Start == nil || s.End == nil {
		return false
	}
	line, from := place(s.Start)
	last, to := place(s.End)
	key, _ := place(pair.Key.GetToken())
	if line != last || line != key || !strings.HasSuffix(strings.TrimRight(d.before(line, from), " "), ":") {
		return false
	}
	// In a group between braces there is no line of its own for the key.
	if strings.ContainsAny(d.before(line, from), "{[") {
		return false
	}
	from = len([]rune(strings.TrimRight(d.before(line, from), " ")))
	return d.put(line, from, to+1, "") == nil
}
