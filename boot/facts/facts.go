// Package facts turns what the TPM and LEDGER answer into the facts of the verdict, errors included.
//
// It is used twice: by init before the verdict, and by core before each attempt, which asks the same
// engine whether counter, journal and intents still fit together.
package facts

import (
	"errors"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// TPM reads C, E, J and V. policy is E's, locked whether this boot has locked E.
func TPM(chip *counter.Chip, policy counter.Digest, locked bool) verdict.TPMFacts {
	s, err := chip.Read(policy, locked)
	if err != nil {
		return Failed(err)
	}
	return verdict.TPMFacts{
		Health: verdict.Healthy, SRK: string(s.SRK), Policy: policy,
		C: state(s.C), E: state(s.E), J: state(s.J), V: state(s.V), Floor: counter.Floor(s.Bits),
		Counter: s.Counter, Expected: s.Expected.Counter, ExpectedLedger: s.Expected.Ledger,
		FoundPolicy: s.Policy, Journal: s.Journal,
	}
}

// Failed are the facts of a TPM that could not be read.
func Failed(err error) verdict.TPMFacts {
	f := verdict.TPMFacts{
		Health: verdict.TPMError, Detail: err.Error(),
		C: verdict.IndexAbsent, E: verdict.IndexAbsent, J: verdict.IndexAbsent, V: verdict.IndexAbsent,
	}
	var name *counter.NameError
	switch {
	case errors.Is(err, counter.ErrUnprovisioned):
		f.Health = verdict.TPMUnowned
	case errors.Is(err, counter.ErrOtherKey):
		f.Health = verdict.TPMOtherKey
	case errors.Is(err, counter.ErrLockout):
		f.Health = verdict.TPMLockout
	case errors.Is(err, counter.ErrForged):
		f.Health = verdict.TPMForged
	case errors.As(err, &name):
		f.Health = verdict.TPMWrongName
	}
	return f
}

func state(s counter.State) verdict.IndexState {
	switch s {
	case counter.Unwritten:
		return verdict.IndexUnwritten
	case counter.Written:
		return verdict.IndexWritten
	case counter.Foreign:
		return verdict.IndexForeign
	case counter.Locked:
		return verdict.IndexLocked
	}
	return verdict.IndexAbsent
}

// Ledger reads LEDGER.
func Ledger(s *ledger.Store) verdict.LedgerFacts {
	c, err := s.Load()
	switch {
	case err == nil:
		return verdict.LedgerFacts{Health: verdict.Healthy, Contents: c}
	case errors.Is(err, ledger.ErrNewer):
		return verdict.LedgerFacts{Health: verdict.LedgerNewer, Detail: err.Error()}
	}
	return verdict.LedgerFacts{Health: verdict.LedgerDamaged, Detail: err.Error()}
}
