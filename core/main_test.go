package core

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestParse: a workstation's core starts only with a file that can be read: without one it would run with the defaults,
// whose API listens on every address.
func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "appliance.yaml")
	if err := os.WriteFile(file, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		code int // -1 goes on
		said string
	}{
		"a file":       {[]string{"--config", file}, -1, ""},
		"none":         {nil, 2, "usage: ratchet core"},
		"one too many": {[]string{"--config", file, "more"}, 2, "usage: ratchet core"},
		"not there":    {[]string{"--config", file + "x"}, 1, file + "x: no such file"},
		"a directory":  {[]string{"--config", filepath.Dir(file)}, 1, "is a directory"},
		"help":         {[]string{"--help"}, 0, "Examples:"},
		"unknown":      {[]string{"--frob"}, 2, "not defined: -frob"},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			if code := new(options).parse(tc.args, &said); code != tc.code || !strings.Contains(said.String(), tc.said) {
				t.Errorf("%d: %s", code, said.String())
			}
		})
	}
}
