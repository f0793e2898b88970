package kernel

import (
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/ratchetos/ratchet/configs"
)

// Lock is configs/kernel.lock.
type Lock struct {
	Stub     Stub           `yaml:"stub"`
	Flavours map[string]Pin `yaml:"flavours"`
}

// Stub says where the systemd UEFI stub is and which package brings it.
type Stub struct {
	Package string `yaml:"package"`
	Path    string `yaml:"path"`
}

// Pin is one flavour's package. Meta is the Debian meta package that points to the
// candidate when Version has left the mirrors.
type Pin struct {
	Package string `yaml:"package"`
	Version string `yaml:"version"`
	SHA256  string `yaml:"sha256"`
	Meta    string `yaml:"meta"`
}

// ParseLock reads a lock file strictly: an unknown key is an error with its line.
func ParseLock(data []byte) (*Lock, error) {
	var l Lock
	if err := yaml.UnmarshalWithOptions(data, &l, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse kernel.lock: %w", err)
	}
	if len(l.Flavours) == 0 {
		return nil, errors.New("parse kernel.lock: no flavours")
	}
	for name, p := range l.Flavours {
		if p.Package == "" || p.Version == "" || p.Meta == "" {
			return nil, fmt.Errorf("parse kernel.lock: flavour %s needs package, version and meta", name)
		}
		if b, err := hex.DecodeString(p.SHA256); err != nil || len(b) != 32 {
			return nil, fmt.Errorf("parse kernel.lock: flavour %s: sha256 is not 64 hex digits", name)
		}
	}
	return &l, nil
}

// Committed returns the lock this builder was compiled with.
func Committed() (*Lock, error) { return ParseLock(configs.KernelLock) }

// Pin returns the pin of a flavour.
func (l *Lock) Pin(flavour string) (Pin, error) {
	p, ok := l.Flavours[flavour]
	if !ok {
		names := make([]string, 0, len(l.Flavours))
		for n := range l.Flavours {
			names = append(names, n)
		}
		sort.Strings(names)
		return Pin{}, fmt.Errorf("no kernel flavour %q; choose one of: %s", flavour, strings.Join(names, ", "))
	}
	return p, nil
}
