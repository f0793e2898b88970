package counter

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// nonceSize is the least that the TCG asks for: half of the session's hash.
const nonceSize = 16

// Chip is the TPM as the secure counter sees it. Not safe for concurrent use.
type Chip struct {
	t meter
	// srk, srkName and session are set by the first command that needs them.
	srk     *tpm2.TPMTPublic
	srkName []byte
	session tpm2.Session
	end     func() error
}

// Open sends nothing: an absent or broken TPM shows at the first command. The transport stays the
// caller's to close, after Close.
func Open(t transport.TPM) *Chip { return &Chip{t: meter{TPM: t}} }

// Commands is the number of commands sent so far.
func (c *Chip) Commands() int { return c.t.commands }

// SRK is the Name of the storage root key, nil before the first authenticated command.
func (c *Chip) SRK() []byte { return c.srkName }

// Close flushes the session.
func (c *Chip) Close() error {
	if c.end == nil {
		return nil
	}
	end := c.end
	c.end, c.session = nil, nil
	return explain("flush session", end())
}

// root reads the storage root key's public area. It is believed only as far as its Name is the one
// recorded at provisioning, which the caller compares.
func (c *Chip) root() error {
	if c.srk != nil {
		return nil
	}
	r, err := tpm2.ReadPublic{ObjectHandle: HandleSRK}.Execute(&c.t)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return fmt.Errorf("read storage root key: %w", ErrUnprovisioned)
	}
	if err != nil {
		return explain("read storage root key", err)
	}
	pub, err := r.OutPublic.Contents()
	if err != nil {
		return fmt.Errorf("read storage root key: %w", err)
	}
	name, err := tpm2.ObjectName(pub)
	if err != nil {
		return fmt.Errorf("read storage root key: %w", err)
	}
	if !isRootTemplate(pub) {
		return fmt.Errorf("read storage root key: %w: handle %#x", ErrOtherKey, uint32(HandleSRK))
	}
	c.srk, c.srkName = pub, name.Buffer
	return nil
}

// isRootTemplate compares everything but the key itself with the TCG's ECC P-256 template.
func isRootTemplate(pub *tpm2.TPMTPublic) bool {
	p, want := *pub, tpm2.ECCSRKTemplate
	p.Unique = want.Unique
	return string(tpm2.Marshal(p)) == string(tpm2.Marshal(want))
}

// salted is an option of every session: only the owner of the storage root key can know its key.
func (c *Chip) salted() tpm2.AuthOption { return tpm2.Salted(HandleSRK, *c.srk) }

// plain is the session for values that may be read on the bus but not changed there.
func (c *Chip) plain() (tpm2.Session, error) {
	if c.session != nil {
		return c.session, nil
	}
	if err := c.root(); err != nil {
		return nil, err
	}
	s, end, err := tpm2.HMACSession(&c.t, tpm2.TPMAlgSHA256, nonceSize, c.salted())
	if err != nil {
		return nil, explain("start session", err)
	}
	c.session, c.end = s, end
	return s, nil
}

// proving is a session for one command that proves knowledge of a hierarchy's authorisation value.
func (c *Chip) proving(auth []byte) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, c.salted(), tpm2.Auth(auth))
}

// hiding is a session for one command whose first parameter is secret.
func (c *Chip) hiding() tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, c.salted(), tpm2.AESEncryption(128, tpm2.EncryptIn))
}

// underPolicy runs use in a policy session that satisfy has prepared. The session is flushed in
// any case; go-tpm's Policy(callback) would leak it when the callback fails.
func (c *Chip) underPolicy(satisfy func(transport.TPM, tpm2.TPMISHPolicy) error, use func(tpm2.Session) error, options ...tpm2.AuthOption) error {
	if err := c.root(); err != nil {
		return err
	}
	s, end, err := tpm2.PolicySession(&c.t, tpm2.TPMAlgSHA256, nonceSize, append(options, c.salted())...)
	if err != nil {
		return fmt.Errorf("start policy session: %w", err)
	}
	if err := satisfy(&c.t, s.Handle()); err != nil {
		return errors.Join(err, end())
	}
	return errors.Join(use(s), end())
}
