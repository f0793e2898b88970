package counter

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// SecretSize is the length of a box's secret, in bytes.
const SecretSize = 32

var (
	// ErrNoSecret says that the TPM holds no secret: it was cleared or replaced, or provisioning did not end.
	ErrNoSecret = errors.New("the TPM holds no secret of this box")
	// ErrSecretPolicy says that it holds one for another PCR 7 or other policy keys, or that something
	// else is in its place.
	ErrSecretPolicy = errors.New("the TPM's secret is for another state of Secure Boot or other policy keys")
)

// indexS holds the box's secret. It is an index and no sealed object, because an object of the same kind
// can be made by anybody who can talk to the TPM and would be believed: with it a whole STATE could be
// exchanged. An index takes the owner, which is the recovery key. It is read under the full policy and in
// no other way.
func indexS(full Digest) index {
	x := newIndex("S", HandleS, SecretSize, full[:], tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, OwnerWrite: true, PolicyRead: true})
	x.public.Attributes.AuthRead = false
	return x
}

// Keep makes secret the one that the box gets back, in place of any before. It needs the recovery key.
// After a power cut inside it there may be none: call it again.
func (c *Chip) Keep(recoveryKey string, p Policy, secret []byte) error {
	if len(secret) != SecretSize {
		return fmt.Errorf("keep secret: %d bytes, want %d", len(secret), SecretSize)
	}
	full, err := p.full()
	if err != nil {
		return fmt.Errorf("keep secret: %w", err)
	}
	if err := c.Forget(recoveryKey, HandleS); err != nil {
		return err
	}
	owner := OwnerAuth(recoveryKey)
	if err := c.define(indexS(full), owner, nil); err != nil {
		return err
	}
	h, err := indexS(full).named()
	if err != nil {
		return err
	}
	s, err := c.plain()
	if err != nil {
		return err
	}
	_, err = tpm2.NVWrite{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: use{session: s, auth: owner, hide: true}},
		NVIndex:    h, Data: tpm2.TPM2BMaxNVBuffer{Buffer: secret},
	}.Execute(&c.t)
	return ownership("write the box's secret", err)
}

// Recall gives the secret back to an image with an approval, encrypted on the bus. Errors: ErrNoSecret,
// ErrSecretPolicy, ErrRevoked, ErrUnapproved, ErrForged, *TransportError, or the TPM's own; after the cap
// it is ErrUnapproved.
func (c *Chip) Recall(p Policy, a Approval) ([]byte, error) {
	if err := ready(p, a); err != nil {
		return nil, fmt.Errorf("read the box's secret: %w", err)
	}
	full, err := p.full()
	if err != nil {
		return nil, fmt.Errorf("read the box's secret: %w", err)
	}
	h, err := indexS(full).at(true, false).named()
	if err != nil {
		return nil, err
	}
	var secret []byte
	err = c.underPolicy(c.satisfyFull(p, a), func(s *session) error {
		r, err := tpm2.NVRead{AuthHandle: with(h, use{session: s, reveal: true}), NVIndex: h, Size: SecretSize}.Execute(&c.t)
		switch {
		case err == nil:
			secret = r.Data.Buffer
		case errors.Is(err, tpm2.TPMRCHandle):
			err = fmt.Errorf("%w (%w)", ErrNoSecret, err)
		default:
			// A Name that is not the one of this policy fails in the HMAC, a policy by itself.
			for _, rc := range []tpm2.TPMRC{tpm2.TPMRCPolicyFail, tpm2.TPMRCAuthFail, tpm2.TPMRCBadAuth, tpm2.TPMRCNVUninitialized} {
				if errors.Is(err, rc) {
					return fmt.Errorf("%w (%w)", ErrSecretPolicy, err)
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, explain("read the box's secret", err)
	}
	if len(secret) != SecretSize {
		return nil, fmt.Errorf("read the box's secret: got %d bytes, want %d", len(secret), SecretSize)
	}
	return secret, nil
}
