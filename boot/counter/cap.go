package counter

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// capPCR is the register that the stub measures the image into; the cap ends its use.
const capPCR = 11

// Words that cap PCR 11. A verifier predicts SHA-256(PCR 11 of the image || SHA-256(word)).
const (
	CapReleased = "released"
	CapIsolated = "isolated"
)

// Cap extends PCR 11 in all banks (PCR_Event hashes once for each), so that from here on nothing
// satisfies a policy that names this image's PCR 11. It must work even when the storage root key
// is missing, hence the empty password when there is no session. It is the last thing that init asks
// in the session, so the TPM may end that.
func (c *Chip) Cap(word string) error {
	auth := tpm2.PasswordAuth(nil)
	if s, err := c.plain(); err == nil {
		auth = use{session: s, last: true}
	}
	_, err := tpm2.PCREvent{
		PCRHandle: tpm2.AuthHandle{Handle: capPCR, Auth: auth},
		EventData: tpm2.TPM2BEvent{Buffer: []byte(word)},
	}.Execute(&c.t)
	return explain(fmt.Sprintf("extend PCR %d with %q", capPCR, word), err)
}

// LockE locks E against writing until the TPM is reset, before or after the cap.
func (c *Chip) LockE(p Policy) error {
	policy, err := p.E()
	if err != nil {
		return err
	}
	h, err := indexE(policy).at(true, false).named()
	if err != nil {
		return err
	}
	return explain("lock E", c.underPolicy(c.satisfyLock(p), func(s *session) error {
		_, err := tpm2.NVWriteLock{AuthHandle: with(h, use{session: s, last: true}), NVIndex: h}.Execute(&c.t)
		return err
	}))
}

// ClosePlatform sets the platform authorisation to a random value that nobody keeps, until the next
// reset. An empty one would let anyone undo everything, TPM2_Clear included: UEFI firmware has set it
// before, a direct kernel boot has not. An authorisation that is already set is left alone.
func (c *Chip) ClosePlatform() error {
	value := make([]byte, 32)
	if _, err := rand.Read(value); err != nil {
		return fmt.Errorf("close platform hierarchy: %w", err)
	}
	// Without a storage root key nothing can be hidden on the bus, but nothing is at stake either.
	var hide []tpm2.Session
	if s, err := c.plain(); err == nil {
		hide = append(hide, use{session: s, hide: true})
	}
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: value},
	}.Execute(&c.t, hide...)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCHierarchy) {
		return nil // firmware was here first
	}
	return explain("close platform hierarchy", err)
}
