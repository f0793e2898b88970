// Package mutant is the balancer's program with deliberate breaks in it, one of which is chosen when it is loaded.
// Tests of the invariants must fail with each of them. No product code imports it.
package mutant

import "github.com/cilium/ebpf"

// Breaks: the constant `mutant` of the object.
const (
	None             = uint32(mutantMutantMUTANT_NONE)
	CreditNotAtomic  = uint32(mutantMutantMUTANT_CREDIT_NOT_ATOMIC)
	CreditKept       = uint32(mutantMutantMUTANT_CREDIT_KEPT)
	StaleReport      = uint32(mutantMutantMUTANT_STALE_REPORT)
	SYNRepeats       = uint32(mutantMutantMUTANT_SYN_REPEATS)
	EvictAny         = uint32(mutantMutantMUTANT_EVICT_ANY)
	ACKEvicts        = uint32(mutantMutantMUTANT_ACK_EVICTS)
	NoOverflow       = uint32(mutantMutantMUTANT_NO_OVERFLOW)
	BlindStore       = uint32(mutantMutantMUTANT_BLIND_STORE)
	GenerationForgot = uint32(mutantMutantMUTANT_NO_GENERATION)
)

// Spec parses the embedded object.
func Spec() (*ebpf.CollectionSpec, error) { return loadMutant() }
