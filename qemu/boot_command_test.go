package main

import (
	"strings"
	"testing"
	"testing/iotest"
)

type fakeKeyboard struct {
	text   strings.Builder
	killed bool
}

func (f *fakeKeyboard) Send(s string) error { f.text.WriteString(s); return nil }
func (f *fakeKeyboard) Kill()               { f.killed = true }

func TestTyped(t *testing.T) {
	for in, want := range map[string]struct {
		text   string
		killed bool
	}{
		"status\r":       {"status\r", false},
		"a\x01xb":        {"a", true},
		"a\x01\x01x":     {"a\x01x", false},
		"\x01q\x03":      {"q\x03", false}, // Control-C is the machine's
		"\x01X":          {"", true},
		"trailing \x01":  {"trailing ", false},
		"x without\x01 ": {"x without ", false},
	} {
		var f fakeKeyboard
		typed(&f, iotest.OneByteReader(strings.NewReader(in))) // keys come one by one
		if f.text.String() != want.text || f.killed != want.killed {
			t.Errorf("%q: sent %q, killed %v, want %+v", in, f.text.String(), f.killed, want)
		}
	}
}
