package kmod

import (
	"fmt"
	"strings"
)

// Module is one line of the closure.
type Module struct {
	Name    string   // as in /sys/module: with underscores
	Path    string   // "" when built in
	Depends []string // names
}

// maxClosure bounds the closure file; a real one has about 60 lines.
const maxClosure = 1 << 20

// ParseClosure reads the list. A module may depend only on modules above it, so that a closure
// that was accepted has no cycles and lacks nothing.
func ParseClosure(data []byte) (map[string]Module, error) {
	if len(data) > maxClosure {
		return nil, fmt.Errorf("parse module closure: %d bytes, at most %d", len(data), maxClosure)
	}
	modules := map[string]Module{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) < 2 || len(fields) > 3 {
			return nil, fmt.Errorf("parse module closure: line %d: want \"name path dependencies\" or \"name builtin\"", number)
		}
		m := Module{Name: Canonical(fields[0])}
		if _, dup := modules[m.Name]; dup {
			return nil, fmt.Errorf("parse module closure: line %d: %s appears twice", number, m.Name)
		}
		if fields[1] != "builtin" {
			m.Path = fields[1]
		}
		if len(fields) == 3 {
			for dep := range strings.SplitSeq(fields[2], ",") {
				if dep == "" || dep == "-" {
					continue
				}
				if _, ok := modules[Canonical(dep)]; !ok {
					return nil, fmt.Errorf("parse module closure: line %d: %s depends on %s, which is not above it", number, m.Name, dep)
				}
				m.Depends = append(m.Depends, Canonical(dep))
			}
		}
		modules[m.Name] = m
	}
	return modules, nil
}

// Canonical is the name under which the kernel knows a module: "-" and "_" are the same to it.
func Canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }
