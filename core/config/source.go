package config

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ratchetos/ratchet/core/config/strict"
)

// Position is a place in the document, and how many characters are meant.
type Position struct {
	Line, Column, Width int
}

// Source remembers where everything of a document stands.
type Source struct {
	Name string

	lines  []string
	keys   map[string]Position // where the key of a path stands
	values map[string]Position // where its value begins
}

func newSource(name string, data []byte) *Source {
	return &Source{
		Name:   name,
		lines:  strings.Split(strings.ReplaceAll(string(data), "\r\n", "\n"), "\n"),
		keys:   map[string]Position{},
		values: map[string]Position{},
	}
}

// Locate finds the value at a path such as "plugins.gateway.volumes[0].disk". For a path
// that is not in the document, as that of a missing key, it is the nearest key above it,
// and the beginning of the document for none.
func (s *Source) Locate(path string) Position {
	if p, ok := s.values[path]; ok {
		return p
	}
	return s.LocateKey(path)
}

// LocateKey finds the key at a path rather than its value.
func (s *Source) LocateKey(path string) Position {
	for ; path != ""; path = parent(path) {
		if p, ok := s.keys[path]; ok {
			return p
		}
		if p, ok := s.values[path]; ok { // an element of a list has no key
			return p
		}
	}
	return Position{Line: 1, Column: 1, Width: 1}
}

// Has reports whether the document says something at the path itself.
func (s *Source) Has(path string) bool {
	_, ok := s.keys[path]
	return ok
}

// parent cuts the last key or index off. A dot or bracket inside a quoted key may be taken
// for a boundary; the shortened path is then found nowhere and cut again.
func parent(path string) string {
	return path[:max(strings.LastIndexByte(path, '.'), strings.LastIndexByte(path, '['), 0)]
}

// at makes a diagnostic at the value of a path.
func (s *Source) at(path string, severity Severity, format string, args ...any) Diagnostic {
	return s.diagnostic(s.Locate(path), severity, path, fmt.Sprintf(format, args...))
}

// issue places a finding of package strict.
func (s *Source) issue(i strict.Issue) Diagnostic {
	p := s.Locate(i.Path)
	if i.Key {
		p = s.LocateKey(i.Path)
	}
	return s.diagnostic(p, Error, i.Path, i.Message)
}

func (s *Source) diagnostic(p Position, severity Severity, path, message string) Diagnostic {
	p = s.clamp(p)
	return Diagnostic{
		File: s.Name, Line: p.Line, Column: p.Column, Severity: severity, Path: path,
		Message: shorten(message, maxMessage),
		excerpt: s.excerpt(p),
	}
}

// clamp keeps a position inside the document, whatever the YAML library counted.
func (s *Source) clamp(p Position) Position {
	p.Line = min(max(p.Line, 1), len(s.lines))
	length := utf8.RuneCountInString(s.lines[p.Line-1])
	p.Column = min(max(p.Column, 1), length+1)
	p.Width = min(max(p.Width, 1), max(length+1-p.Column, 1))
	return p
}

// A document may be one line of a megabyte, and a message may quote from it.
const (
	maxShown   = 120
	maxMessage = 400
)

// excerpt shows the line, the one before it for context, and carets.
func (s *Source) excerpt(p Position) string {
	var b strings.Builder
	number := func(mark string, n int) { fmt.Fprintf(&b, "%s%4d | ", mark, n) }
	if p.Line > 1 && strings.TrimSpace(s.lines[p.Line-2]) != "" {
		number(" ", p.Line-1)
		b.WriteString(shorten(s.lines[p.Line-2], maxShown) + "\n")
	}
	if p.Column > maxShown {
		return b.String()
	}
	number(">", p.Line)
	b.WriteString(shorten(s.lines[p.Line-1], maxShown) + "\n")
	b.WriteString("        ")
	for i, r := range []rune(s.lines[p.Line-1]) {
		if i == p.Column-1 {
			break
		}
		if r != '\t' { // a tab is as wide below as above
			r = ' '
		}
		b.WriteRune(r)
	}
	b.WriteString(strings.Repeat("^", min(p.Width, maxShown-p.Column+1)) + "\n")
	return b.String()
}

// shorten also blanks control characters: the text goes to a terminal.
func shorten(text string, limit int) string {
	runes := []rune(text)
	suffix := ""
	if len(runes) > limit {
		runes, suffix = runes[:limit], "…"
	}
	for i, r := range runes {
		if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			runes[i] = '?'
		}
	}
	return string(runes) + suffix
}
