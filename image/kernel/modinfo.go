package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"path"
	"strings"
)

// modinfo is what a module says about itself. Names use underscores, as the kernel does.
type modinfo struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"` // below /lib/modules/<release>
	Depends []string `json:"depends,omitempty"`
	Soft    []string `json:"soft,omitempty"`  // softdep pre: names or aliases
	Alias   []string `json:"alias,omitempty"` // symbolic ones only
}

// parseModule reads the .modinfo section of a module.
func parseModule(data []byte) (modinfo, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return modinfo{}, fmt.Errorf("parse module: %w", err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return modinfo{}, errors.New("parse module: no .modinfo section")
	}
	b, err := s.Data()
	if err != nil {
		return modinfo{}, fmt.Errorf("parse module: %w", err)
	}
	return parseModinfo(b)
}

// parseModinfo reads the NUL-separated key=value strings of a .modinfo section.
func parseModinfo(b []byte) (modinfo, error) {
	var m modinfo
	for field := range bytes.SplitSeq(b, []byte{0}) {
		key, value, _ := strings.Cut(string(field), "=")
		switch key {
		case "name":
			m.Name = moduleName(value)
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.Depends = append(m.Depends, moduleName(d))
				}
			}
		case "softdep":
			m.Soft = append(m.Soft, softPre(value)...)
		case "alias":
			// Aliases with a colon match devices, which the hardware catalogue does for us
			// by name; the others (crypto-crc32c, fs-ext4) are asked for by other modules.
			if !strings.Contains(value, ":") {
				m.Alias = append(m.Alias, moduleName(value))
			}
		}
	}
	if m.Name == "" {
		return modinfo{}, errors.New("parse .modinfo: no name")
	}
	return m, nil
}

// softPre returns what a soft dependency wants loaded before: "pre: a b post: c" → a, b.
func softPre(value string) []string {
	var out []string
	pre := false
	for _, w := range strings.Fields(value) {
		switch w {
		case "pre:":
			pre = true
		case "post:":
			pre = false
		default:
			if pre {
				out = append(out, moduleName(w))
			}
		}
	}
	return out
}

// moduleName turns a file name or a name with dashes into the kernel's spelling.
func moduleName(s string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(s), ".ko"), "-", "_")
}
