package counter

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// ErrRevoked says that V has moved past the image's security version.
var ErrRevoked = errors.New("this box has moved on to a later security version than the image's")

// ErrUnapproved says that the TPM does not take the image's signed policy.
var ErrUnapproved = errors.New("the TPM refuses the image's signed policy")

// underPolicy runs one command in the policy session after satisfy has prepared it. The TPM resets
// the session with each command that succeeds; after a failure it is flushed.
func (c *Chip) underPolicy(satisfy func(h tpm2.TPMISHPolicy) error, command func(*session) error) error {
	if err := c.root(); err != nil {
		return err
	}
	if c.policy == nil || c.policy.ended {
		s, err := openSession(&c.t, tpm2.TPMSEPolicy, c.srk)
		if err != nil {
			return fmt.Errorf("start policy session: %w", err)
		}
		c.policy = s
	}
	err := satisfy(c.policy.handle)
	if err == nil {
		err = command(c.policy)
	}
	if err != nil {
		err = errors.Join(err, c.policy.flush(&c.t))
		c.policy = nil
	}
	return err
}

// ready reports what of a policy or an approval cannot be sent to any TPM.
func ready(p Policy, a Approval) error {
	if _, err := p.E(); err != nil {
		return err
	}
	if _, err := a.Digest(); err != nil {
		return err
	}
	_, _, err := keyArea(a.Key)
	return err
}

// satisfyFull takes a session through the full policy with the approval of the image that runs.
func (c *Chip) satisfyFull(p Policy, a Approval) func(tpm2.TPMISHPolicy) error {
	return func(h tpm2.TPMISHPolicy) error {
		pcrs := a.pcrs()
		pcrs.PolicySession = h
		if _, err := pcrs.Execute(&c.t); err != nil {
			return refusal("PolicyPCR of 11, 12 and 13", err, tpm2.TPMRCValue, ErrUnapproved)
		}
		v, err := a.overV(tpm2.PasswordAuth(nil))
		if err != nil {
			return err
		}
		v.PolicySession = h
		if _, err := v.Execute(&c.t); err != nil {
			return refusal("PolicyNV over V", err, tpm2.TPMRCPolicy, ErrRevoked)
		}
		if err := c.authorize(h, a); err != nil {
			return err
		}
		or, err := p.orKeys()
		if err != nil {
			return err
		}
		or.PolicySession = h
		if _, err := or.Execute(&c.t); err != nil {
			return refusal("PolicyOR over the policy keys", err, tpm2.TPMRCValue, ErrUnapproved)
		}
		pcr7 := p.pcr7()
		pcr7.PolicySession = h
		if _, err := pcr7.Execute(&c.t); err != nil {
			return refusal("PolicyPCR of 7", err, tpm2.TPMRCValue, ErrUnapproved)
		}
		return nil
	}
}

// authorize replaces the session's digest, which must be the approved one, by the key's.
func (c *Chip) authorize(h tpm2.TPMISHPolicy, a Approval) error {
	approved, err := a.Digest()
	if err != nil {
		return err
	}
	name, _, err := keyArea(a.Key)
	if err != nil {
		return err
	}
	ticket, err := c.verified(a)
	if err != nil {
		return err
	}
	_, err = tpm2.PolicyAuthorize{
		PolicySession: h, ApprovedPolicy: tpm2.TPM2BDigest{Buffer: approved[:]}, PolicyRef: policyRef(), KeySign: name, CheckTicket: *ticket,
	}.Execute(&c.t)
	return refusal("PolicyAuthorize", err, tpm2.TPMRCValue, ErrUnapproved)
}

// verified has the TPM check the signature. Its ticket serves for the rest of the boot.
func (c *Chip) verified(a Approval) (*tpm2.TPMTTKVerified, error) {
	if c.ticket != nil && c.ticketFor == a {
		return c.ticket, nil
	}
	_, area, err := keyArea(a.Key)
	if err != nil {
		return nil, err
	}
	signed, err := a.ToBeSigned()
	if err != nil {
		return nil, err
	}
	// In the owner's hierarchy: for a key of the null hierarchy there are no tickets.
	key, err := tpm2.LoadExternal{InPublic: tpm2.New2B(area), Hierarchy: tpm2.TPMRHOwner}.Execute(&c.t)
	if err != nil {
		return nil, fmt.Errorf("load policy key: %w", err)
	}
	r, err := tpm2.VerifySignature{
		KeyHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name},
		Digest:    tpm2.TPM2BDigest{Buffer: signed[:]}, Signature: a.signature(),
	}.Execute(&c.t)
	_, flush := tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(&c.t)
	if err := errors.Join(refusal("verify the signed policy", err, tpm2.TPMRCSignature, ErrUnapproved), flush); err != nil {
		return nil, err
	}
	c.ticket, c.ticketFor = &r.Validation, a
	return c.ticket, nil
}

// satisfyE is satisfyFull and the branch of E that may write.
func (c *Chip) satisfyE(p Policy, a Approval) func(tpm2.TPMISHPolicy) error {
	return func(h tpm2.TPMISHPolicy) error {
		if err := c.satisfyFull(p, a)(h); err != nil {
			return err
		}
		return c.eitherBranch(p, h)
	}
}

// satisfyLock takes the branch of E that may only lock. It reads no PCR, so it works after the cap.
func (c *Chip) satisfyLock(p Policy) func(tpm2.TPMISHPolicy) error {
	return func(h tpm2.TPMISHPolicy) error {
		only := lockOnly()
		only.PolicySession = h
		if _, err := only.Execute(&c.t); err != nil {
			return fmt.Errorf("PolicyCommandCode: %w", err)
		}
		return c.eitherBranch(p, h)
	}
}

func (c *Chip) eitherBranch(p Policy, h tpm2.TPMISHPolicy) error {
	or, err := p.orLock()
	if err != nil {
		return err
	}
	or.PolicySession = h
	if _, err := or.Execute(&c.t); err != nil {
		return fmt.Errorf("PolicyOR over E's branches: %w", err)
	}
	return nil
}

// refusal gives the TPM's one way of saying no at a step the meaning that it has there.
func refusal(step string, err error, no tpm2.TPMRC, meaning error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, no):
		return fmt.Errorf("%s: %w (%w)", step, meaning, err)
	}
	return fmt.Errorf("%s: %w", step, err)
}
