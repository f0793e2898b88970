package counter

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// MaxSecret is the most that Seal takes: what every TPM can.
const MaxSecret = 128

// Sealed is a secret that this TPM gives back under a box's full policy. It is no secret itself and is
// kept on the disk; in JSON its halves are base64.
type Sealed struct {
	Public  []byte `json:"public"`  // TPM2B_PUBLIC
	Private []byte `json:"private"` // TPM2B_PRIVATE
}

// ErrNotSealedHere says that the TPM cannot load a Sealed: another TPM made it, this one was cleared
// since, or it is damaged.
var ErrNotSealedHere = errors.New("this TPM did not seal it")

// ErrOtherPolicy says that a Sealed is this TPM's, but for another PCR 7 or other policy keys.
var ErrOtherPolicy = errors.New("it was sealed for another state of Secure Boot or other policy keys")

// Seal puts a secret of up to MaxSecret bytes under a box's full policy: any image that a policy key
// approved may have it, on this TPM, with this PCR 7, until V revokes the image, before the cap. The
// secret is encrypted on the bus.
func (c *Chip) Seal(p Policy, secret []byte) (Sealed, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return Sealed{}, fmt.Errorf("seal secret: %d bytes, at least 1 and at most %d", len(secret), MaxSecret)
	}
	full, err := p.full()
	if err != nil {
		return Sealed{}, fmt.Errorf("seal secret: %w", err)
	}
	s, err := c.plain()
	if err != nil {
		return Sealed{}, err
	}
	r, err := tpm2.Create{
		ParentHandle: c.parent(use{session: s, hide: true}),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(tpm2.TPMTPublic{
			Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256, AuthPolicy: tpm2.TPM2BDigest{Buffer: full[:]},
			ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: true},
		}),
	}.Execute(&c.t)
	if err != nil {
		return Sealed{}, explain("seal secret", err)
	}
	return Sealed{Public: tpm2.Marshal(r.OutPublic), Private: tpm2.Marshal(r.OutPrivate)}, nil
}

// Unseal gives the secret back to an image with an approval. Errors: ErrNotSealedHere, ErrOtherPolicy,
// ErrRevoked, ErrUnapproved, ErrForged, *TransportError, or the TPM's own; after the cap it is ErrUnapproved.
func (c *Chip) Unseal(p Policy, a Approval, sealed Sealed) ([]byte, error) {
	pub, err := tpm2.Unmarshal[tpm2.TPM2BPublic](sealed.Public)
	if err != nil {
		return nil, fmt.Errorf("unseal secret: %w: %w", ErrNotSealedHere, err)
	}
	priv, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](sealed.Private)
	if err != nil {
		return nil, fmt.Errorf("unseal secret: %w: %w", ErrNotSealedHere, err)
	}
	if err := ready(p, a); err != nil {
		return nil, fmt.Errorf("unseal secret: %w", err)
	}
	s, err := c.plain()
	if err != nil {
		return nil, err
	}
	object, err := tpm2.Load{ParentHandle: c.parent(use{session: s}), InPublic: *pub, InPrivate: *priv}.Execute(&c.t)
	if err != nil {
		for _, rc := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCSize, tpm2.TPMRCBinding, tpm2.TPMRCValue, tpm2.TPMRCType} {
			if errors.Is(err, rc) {
				return nil, fmt.Errorf("unseal secret: %w: %w", ErrNotSealedHere, err)
			}
		}
		return nil, explain("load sealed secret", err)
	}
	h := tpm2.NamedHandle{Handle: object.ObjectHandle, Name: object.Name}
	var secret []byte
	err = c.underPolicy(c.satisfyFull(p, a), func(s *session) error {
		r, err := tpm2.Unseal{ItemHandle: with(h, use{session: s, reveal: true})}.Execute(&c.t)
		if err == nil {
			secret = r.OutData.Buffer
		}
		return refusal("Unseal", err, tpm2.TPMRCPolicyFail, ErrOtherPolicy)
	})
	_, flush := tpm2.FlushContext{FlushHandle: object.ObjectHandle}.Execute(&c.t)
	if err := errors.Join(err, flush); err != nil {
		return nil, explain("unseal secret", err)
	}
	return secret, nil
}

// parent is the storage root key, used through a session.
func (c *Chip) parent(s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: HandleSRK, Name: tpm2.TPM2BName{Buffer: c.srkName}, Auth: s}
}
