package slot

import (
	"encoding/hex"
	"strings"
	"testing"
)

// fromOVMF are entries that OVMF 2022.11 makes by itself: a disk's, the shell's, and a USB stick's.
var fromOVMF = map[string]string{
	"disk":  "010000001e0055004500460049002000480041005200440044004900530 04b000000 02010c00d041030a0000000001010600000103 00 7fff0400",
	"shell": "01000000180042006f006f0074000000 0406140083a5047c3e9e1c4fad65e05268d0b4d1 7fff0400",
}

func TestOption(t *testing.T) {
	want := Option{Active: true, Description: "Ratchet A", Place: slots["A"], Path: File}
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseOption(b)
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseOption(append(b, "optional data"...)); err != nil || got != want {
		t.Errorf("with optional data: %+v, %v", got, err)
	}
	for n := range b {
		if _, err := ParseOption(b[:n]); err == nil {
			t.Errorf("%d of %d bytes: no error", n, len(b))
		}
	}
	for name, text := range fromOVMF {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(name, err)
		}
		if o, err := ParseOption(b); err == nil {
			t.Errorf("%s: taken for one of ours: %+v", name, o)
		}
	}
}

func TestOptionRefuses(t *testing.T) {
	for name, o := range map[string]Option{
		"GUID":        {Description: "x", Place: Place{GUID: "11111111"}, Path: File},
		"no GUID":     {Description: "x", Path: File},
		"description": {Description: strings.Repeat("x", maxDescription+1), Place: slots["A"], Path: File},
		"path":        {Description: "x", Place: slots["A"], Path: strings.Repeat("x", maxOption)},
	} {
		if _, err := o.Encode(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzOption: what is accepted and can be written reads back the same.
func FuzzOption(f *testing.F) {
	for _, o := range []Option{
		{Active: true, Description: "Ratchet A", Place: slots["A"], Path: File},
		{Description: "Ratchet β", Place: slots["B"], Path: `\x`},
	} {
		b, err := o.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := ParseOption(b)
		if err != nil {
			return
		}
		again, err := o.Encode()
		if err != nil {
			return // a longer text than we would write
		}
		if p, err := ParseOption(again); err != nil || p != o {
			t.Fatalf("%+v became %+v (%v)", o, p, err)
		}
	})
}
