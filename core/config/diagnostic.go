package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity of a diagnostic.
type Severity string

// An Error keeps a document from being applied, a Warning does not.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Diagnostic is one finding at one place of the document.
type Diagnostic struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`   // from 1
	Column   int      `json:"column"` // from 1, in characters
	Severity Severity `json:"severity"`
	Path     string   `json:"path,omitempty"` // as "plugins.gateway.volumes[0].disk"
	Message  string   `json:"message"`
	Hint     string   `json:"hint,omitempty"` // what to do, when the message does not say it

	excerpt string // source lines with a caret
	absent  bool   // it is about hardware that cannot be had, which may change while the document does not
}

// String is one line, in the form that editors jump to.
func (d Diagnostic) String() string {
	kind := ""
	if d.Severity == Warning {
		kind = "warning: "
	}
	hint := ""
	if d.Hint != "" {
		hint = " (" + d.Hint + ")"
	}
	return fmt.Sprintf("%s:%d:%d: %s%s%s", d.File, d.Line, d.Column, kind, d.Message, hint)
}

// Detail is String with the source lines and a caret below it; it ends with a newline.
func (d Diagnostic) Detail() string { return d.String() + "\n" + d.excerpt }

// Diagnostics are the findings of one pass in the order of the document.
type Diagnostics []Diagnostic

// Failed reports whether there is an error among them.
func (ds Diagnostics) Failed() bool { return ds.count(Error) > 0 }

func (ds Diagnostics) count(s Severity) int {
	n := 0
	for _, d := range ds {
		if d.Severity == s {
			n++
		}
	}
	return n
}

// Detail is the whole report for a terminal.
func (ds Diagnostics) Detail() string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.Detail())
	}
	return b.String()
}

// Summary counts: "2 errors, 1 warning".
func (ds Diagnostics) Summary() string {
	plural := func(n int, noun string) string {
		if n != 1 {
			noun += "s"
		}
		return fmt.Sprintf("%d %s", n, noun)
	}
	s := plural(ds.count(Error), "error")
	if w := ds.count(Warning); w > 0 {
		s += ", " + plural(w, "warning")
	}
	return s
}

// Err is nil when nothing failed, else an error that holds the first finding and the count.
func (ds Diagnostics) Err() error {
	for _, d := range ds {
		if d.Severity == Error {
			return fmt.Errorf("configuration has %s, the first: %s", ds.Summary(), d)
		}
	}
	return nil
}

// Known makes warnings of errors about hardware that cannot be had, where those of the document before have them, too: a
// change is not refused for what it leaves as it is, or what is pulled could not even be taken out.
func (ds Diagnostics) Known(before Diagnostics) Diagnostics {
	for i, d := range ds {
		if d.absent && slices.ContainsFunc(before, func(b Diagnostic) bool { return b.absent && b.Message == d.Message }) {
			ds[i].Severity = Warning
		}
	}
	return ds
}

// sorted orders by position; findings at one place keep the order in which they were made.
func (ds Diagnostics) sorted() Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return ds
}
