// Package document reads migration templates as operators write them: YAML, strictly, with the line and column of every
// mistake.
//
// It is apart from package template because it needs core's YAML reader, and the language of the appliance's own
// configuration with it: bounded, without anchors and tags, every key known. It keeps no state.
package document

import (
	"strings"

	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/template"
)

// Error is everything that is wrong with a document.
type Error struct{ found config.Diagnostics }

// Error has one line a mistake, in the form that editors jump to.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.found))
	for _, d := range e.found {
		lines = append(lines, d.String())
	}
	return strings.Join(lines, "\n")
}

// Detail is Error with the lines of the document and a caret below each mistake.
func (e *Error) Detail() string { return e.found.Detail() }

// Parse reads a template. name is what reports call the document. The error is an *Error.
func Parse(name string, text []byte) (model.Template, error) {
	var t model.Template
	found := config.Decode(name, text, &t, func(errorf func(path, format string, args ...any)) { template.Check(t, errorf) })
	if found.Failed() {
		return model.Template{}, &Error{found}
	}
	return t, nil
}
