package counter

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Chip is the TPM as the secure counter sees it. Not safe for concurrent use.
type Chip struct {
	t meter
	// The rest is set by the first command that needs it.
	srk          *tpm2.TPMTPublic
	srkName      []byte
	hmac, policy *session
	ticket       *tpm2.TPMTTKVerified // for the approval that was verified last
	ticketFor    Approval
}

// Open sends nothing: an absent or broken TPM shows at the first command. The transport stays the
// caller's to close, after Close.
func Open(t transport.TPM) *Chip { return &Chip{t: meter{TPM: t}} }

// Commands is the number of commands sent so far.
func (c *Chip) Commands() int { return c.t.commands }

// SRK is the Name of the storage root key, nil before the first authenticated command.
func (c *Chip) SRK() []byte { return c.srkName }

// Close flushes the sessions.
func (c *Chip) Close() error {
	err := errors.Join(c.policy.flush(&c.t), c.hmac.flush(&c.t))
	c.policy, c.hmac = nil, nil
	return explain("flush sessions", err)
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
	if p.Type != want.Type { // with the other's key in it go-tpm could not encode it
		return false
	}
	p.Unique = want.Unique
	return string(tpm2.Marshal(p)) == string(tpm2.Marshal(want))
}

// plain is the HMAC session: its values may be read on the bus, but not changed there.
func (c *Chip) plain() (*session, error) {
	if c.hmac != nil && !c.hmac.ended {
		return c.hmac, nil
	}
	if err := c.root(); err != nil {
		return nil, err
	}
	s, err := openSession(&c.t, tpm2.TPMSEHMAC, c.srk)
	if err != nil {
		return nil, explain("start session", err)
	}
	c.hmac = s
	return s, nil
}
