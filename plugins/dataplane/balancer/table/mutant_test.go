package table

import "github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb/mutant"

// mutated loads the object that can break, with one break on.
func mutated(o Options, m uint32) Options {
	if m != 0 {
		o.source, o.mutant = mutant.Spec, m
	}
	return o
}
