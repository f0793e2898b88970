// Package fakesys unpacks a sysfs tree out of a txtar archive, for tests. A file named
// "path -> target" becomes a symbolic link; a file whose content is one line "hex: …" holds
// these bytes; a name that ends in "/" is a directory.
package fakesys

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/ratchetos/ratchet/hw/internal/sysfs"
)

// New unpacks the archive file into a new directory.
func New(t testing.TB, archive string) string {
	t.Helper()
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range a.Files {
		name, target, isLink := strings.Cut(f.Name, " -> ")
		path := filepath.Join(root, name)
		parent := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			parent = path
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		switch {
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
		default:
			data := f.Data
			if digits, ok := strings.CutPrefix(string(data), "hex:"); ok {
				if data, err = hex.DecodeString(strings.Join(strings.Fields(digits), "")); err != nil {
					t.Fatal(err)
				}
			}
			err = os.WriteFile(path, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// Get reads an attribute below root, "" when it is not there.
func Get(root string, path ...string) string {
	return sysfs.Attribute(append([]string{root}, path...)...)
}
