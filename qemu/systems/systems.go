package systems

import (
	"fmt"
	"slices"
	"strings"
)

// System is one of the fifteen.
type System struct {
	// Name as the operator writes it, for example "secure-counter".
	Name string
}

// names in the order of the table.
var names = []string{
	"secure-counter", "cached-volume", "shadow-volume", "wan-cache", "activation",
	"export-control", "interface-group", "balancer", "idle-decision", "transmit-inference",
	"lease", "migration", "migration-schedule", "page-store", "pipeline",
}

// All returns the fifteen systems in the order of the table.
func All() []System {
	all := make([]System, len(names))
	for i, n := range names {
		all[i] = System{Name: n}
	}
	return all
}

// Select returns the systems named in a comma-separated list, in the order of the table; all for an empty list.
func Select(only string) ([]System, error) {
	var wanted []string
	for name := range strings.SplitSeq(only, ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("select system %q: there is no such system; there are %s", name, strings.Join(names, ", "))
		}
		wanted = append(wanted, name)
	}
	if len(wanted) == 0 {
		return All(), nil
	}
	return slices.DeleteFunc(All(), func(s System) bool { return !slices.Contains(wanted, s.Name) }), nil
}

// Test is the name of the function that shows the system: secure-counter is TestSystemSecureCounter.
func (s System) Test() string {
	var b strings.Builder
	b.WriteString("TestSystem")
	for word := range strings.SplitSeq(s.Name, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
