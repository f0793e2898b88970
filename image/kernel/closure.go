package kernel

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one entry of a closure.
type Module struct {
	Name    string
	Builtin bool
	Path    string   // in the image: /lib/modules/<release>/kernel/….ko
	File    string   // in the cache
	Deps    []string // loaded before, soft dependencies included
}

// Closure is a list of modules in which each stands after everything it depends on.
type Closure struct {
	Modules []Module
	Missing []string // asked for, but neither a module nor built into this kernel
}

// Closure resolves module names (dashes or underscores) to themselves and all they need.
func (k *Kernel) Closure(names []string) (Closure, error) {
	ix, err := readIndex(k.Dir)
	if err != nil {
		return Closure{}, err
	}
	r := newResolver(ix)
	for _, n := range names {
		if !r.add(moduleName(n)) {
			r.out.Missing = append(r.out.Missing, moduleName(n))
		}
	}
	for i := range r.out.Modules {
		m := &r.out.Modules[i]
		if !m.Builtin {
			m.File = filepath.Join(k.Modules, m.Path)
			m.Path = "/lib/modules/" + k.Release + "/" + m.Path
		}
	}
	if r.err != nil {
		return Closure{}, r.err
	}
	return r.out, nil
}

// resolver walks dependencies depth first.
type resolver struct {
	modules map[string]modinfo
	builtin map[string]bool
	alias   map[string][]string // symbolic alias → module names
	done    map[string]bool     // false while its dependencies are being walked
	out     Closure
	err     error
}

func newResolver(ix *index) *resolver {
	r := &resolver{
		modules: make(map[string]modinfo, len(ix.Modules)),
		builtin: make(map[string]bool, len(ix.Builtin)),
		alias:   make(map[string][]string),
		done:    make(map[string]bool),
	}
	for _, m := range ix.Modules {
		r.modules[m.Name] = m
		for _, a := range m.Alias {
			r.alias[a] = append(r.alias[a], m.Name)
		}
	}
	for _, n := range ix.Builtin {
		r.builtin[n] = true
	}
	return r
}

// add appends a module after its dependencies and reports whether the kernel has it.
func (r *resolver) add(name string) bool {
	if finished, seen := r.done[name]; seen {
		if !finished && r.err == nil {
			r.err = fmt.Errorf("module %s depends on itself", name)
		}
		return true
	}
	if r.builtin[name] {
		r.done[name] = true
		r.out.Modules = append(r.out.Modules, Module{Name: name, Builtin: true})
		return true
	}
	m, ok := r.modules[name]
	if !ok {
		return false
	}
	r.done[name] = false
	deps := slices.Clone(m.Depends)
	for _, s := range m.Soft {
		if p := r.provider(s); p != "" && !slices.Contains(deps, p) {
			deps = append(deps, p)
		}
	}
	kept := deps[:0]
	for _, d := range deps {
		if !r.add(d) {
			// A hard dependency that is missing would fail at load time on the box.
			if slices.Contains(m.Depends, d) && r.err == nil {
				r.err = fmt.Errorf("module %s needs %s, which the kernel package does not have", name, d)
			}
			continue
		}
		if !r.builtin[d] {
			kept = append(kept, d)
		}
	}
	r.done[name] = true
	r.out.Modules = append(r.out.Modules, Module{Name: name, Path: m.Path, Deps: kept})
	return true
}

// provider picks the module behind a soft dependency, "" when it is built in or unknown.
// Of several (crc32c has a generic and an SSE 4.2 one) the generic is taken: it loads on
// every machine, and a module that refuses to load would look like a fault.
func (r *resolver) provider(name string) string {
	if r.builtin[name] {
		return ""
	}
	if _, ok := r.modules[name]; ok {
		return name
	}
	names := slices.Clone(r.alias[name])
	slices.Sort(names)
	for _, n := range names {
		if strings.HasPrefix(r.modules[n].Path, "kernel/crypto/") || strings.HasPrefix(r.modules[n].Path, "kernel/lib/") {
			return n
		}
	}
	if len(names) > 0 {
		return names[0]
	}
	return ""
}

// Text is the closure as init reads it from /lib/modules/closure: one line a module, in
// load order, either "name builtin" or "name path" or "name path dep,dep".
func (c Closure) Text() string {
	var b strings.Builder
	for _, m := range c.Modules {
		switch {
		case m.Builtin:
			fmt.Fprintf(&b, "%s builtin\n", m.Name)
		case len(m.Deps) == 0:
			fmt.Fprintf(&b, "%s %s\n", m.Name, m.Path)
		default:
			fmt.Fprintf(&b, "%s %s %s\n", m.Name, m.Path, strings.Join(m.Deps, ","))
		}
	}
	return b.String()
}
