package counter

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

var (
	// ErrUnprovisioned says that the storage root key or all of C, E and J are absent.
	ErrUnprovisioned = errors.New("the TPM was never provisioned for this box")
	// ErrLockout says that the TPM refuses authorisations until its lockout time has passed.
	ErrLockout = errors.New("the TPM is in dictionary-attack lockout")
	// ErrForged says that an answer was not authenticated by the TPM that owns the storage root key.
	ErrForged = errors.New("answer is not authenticated by the storage root key of this TPM")
	// ErrOwned says that owner or lockout authorisation is set, and not from the recovery key given.
	ErrOwned = errors.New("the TPM has another owner")
	// ErrNoRoom says that the TPM's own memory is full.
	ErrNoRoom = errors.New("the TPM has no room for another NV index or key: undefine indices that nobody needs " +
		"(tpm2_getcap handles-nv-index, tpm2_nvundefine), or clear the TPM in the firmware setup")
	// ErrOtherKey says that the handle of the storage root key holds another key.
	ErrOtherKey = errors.New("the handle of the storage root key holds another key")
)

// NameError says that an index exists with other attributes than the ones it was provisioned with.
type NameError struct {
	Index string // "C", "E" or "J"
	Why   string // the first difference, for people
}

func (e *NameError) Error() string {
	return fmt.Sprintf("NV index %s is not the one that was provisioned: %s", e.Index, e.Why)
}

// TransportError is a failure to talk to the TPM at all, as opposed to an answer that refuses.
type TransportError struct{ Err error }

func (e *TransportError) Error() string { return "talk to the TPM: " + e.Err.Error() }
func (e *TransportError) Unwrap() error { return e.Err }

// explain sorts an error of a command that ran in an authenticated session.
func explain(verb string, err error) error {
	var rc tpm2.TPMRC
	var link *TransportError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, tpm2.TPMRCLockout):
		return fmt.Errorf("%s: %w", verb, ErrLockout)
	case errors.Is(err, tpm2.TPMRCNVSpace):
		return fmt.Errorf("%s: %w", verb, ErrNoRoom)
	case errors.As(err, &rc), errors.As(err, &link):
		return fmt.Errorf("%s: %w", verb, err)
	}
	// The TPM said yes but the response did not parse, or its HMAC is wrong.
	return fmt.Errorf("%s: %w (%w)", verb, ErrForged, err)
}
