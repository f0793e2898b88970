package nbd

import (
	"strings"
	"testing"
)

// noSocket stands for a connection that can be asked.
type noSocket struct{}

func (noSocket) Control(func(uintptr)) error    { return nil }
func (noSocket) Read(func(uintptr) bool) error  { return nil }
func (noSocket) Write(func(uintptr) bool) error { return nil }

// TestLoneRules: w is a write, f a FLUSH, a capital one comes before the reply to another, ! says that a FLUSH was
// begun ahead, ? that the socket holds more than was read.
func TestLoneRules(t *testing.T) {
	many := strings.Repeat("wf", (lonePenalty+loneAfter)/2)
	for _, c := range []struct {
		history string
		want    bool
	}{
		{"wfwfwfw", false},
		{"wfwfwfwf", true},
		{"wfwfwfwfW", false},
		{"wfwfwfwfWfwfwfwf", false},
		{"wfwfwfwfWfwfwfwfw", true},
		{"wfwfwfwfw!f", true},
		{"wfwfwfwfw!w", false},
		{"wfwfwfwfw!wwfwfwfwfwfwf", false},
		{"wfwfwfwfw!w" + many, true},
		{"wfwfwfwf?", false},
		{"wfwfwfwf?wfwfwfwfwfwf", false},
		{"wfwfwfwf?" + many, true},
	} {
		l := lone{asked: noSocket{}}
		for _, e := range c.history {
			switch e {
			case '!':
				l.ahead = true
			case '?':
				l.check() // nobody answers, which counts as more
			default:
				cmd := CmdWrite
				if e == 'f' || e == 'F' {
					cmd = CmdFlush
				}
				l.arrived(request{cmd: cmd, n: 1}, e == 'W' || e == 'F')
			}
		}
		if l.is() != c.want {
			t.Errorf("%.40s: lone %v, want %v", c.history, l.is(), c.want)
		}
	}
}
