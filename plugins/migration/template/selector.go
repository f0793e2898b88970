package template

import (
	"cmp"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// VM is one that the manager knows.
type VM struct {
	Name string
	Host string
	// Type is the name of the type it was last given, "" for none.
	Type   string
	Labels map[string]string
	Shape  model.Shape
	// Guest is what its agent reports, nil when none answers.
	Guest *model.Guest
}

// Select returns the VMs that a selector means, by name.
func Select(s model.Selector, vms []VM) []VM {
	var list []VM
	for _, vm := range vms {
		if selects(s, vm) {
			list = append(list, vm)
		}
	}
	slices.SortFunc(list, func(a, b VM) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Host, b.Host)) })
	return list
}

func selects(s model.Selector, vm VM) bool {
	switch {
	case len(s.VMs) > 0 && !matchAny(s.VMs, vm.Name),
		matchAny(s.Except, vm.Name),
		len(s.Hosts) > 0 && !matchAny(s.Hosts, vm.Host),
		len(s.Types) > 0 && !slices.Contains(s.Types, vm.Type):
		return false
	}
	for key, pattern := range s.Labels {
		if value, has := vm.Labels[key]; !has || !match(pattern, value) {
			return false
		}
	}
	for _, name := range s.Capabilities {
		if !able(vm.Guest, name) {
			return false
		}
	}
	return true
}

// able tells whether a guest has a capability or can be given it.
func able(g *model.Guest, name string) bool {
	return g != nil && slices.ContainsFunc(g.Can, func(c model.Capability) bool {
		return c.Name == name && c.State != model.Missing
	})
}

func matchAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, name) })
}

// match compares with * for any text and ? for any one byte. It goes back to the last * only, which suffices and keeps the
// time of a hostile pattern within length times length.
func match(pattern, name string) bool {
	p, n, star, mark := 0, 0, -1, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
