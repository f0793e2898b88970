package counter

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// ErrNoOwner says that owner authorisation is not set, so that no recovery key can be checked.
var ErrNoOwner = errors.New("the TPM has no owner")

// CheckOwner proves a recovery key to the TPM and changes nothing. Errors: ErrOwned when it is
// another key, ErrNoOwner. Owner authorisation is not subject to the dictionary-attack counter: a wrong
// key locks nothing, and the caller bounds how often it asks.
func (c *Chip) CheckOwner(recoveryKey string) error {
	has, err := c.permanent()
	if err != nil {
		return err
	}
	if !has.ownerSet {
		return ErrNoOwner
	}
	return c.proveOwner(OwnerAuth(recoveryKey))
}

func (c *Chip) proveOwner(auth []byte) error {
	s, err := c.plain()
	if err != nil {
		return err
	}
	// A trial session proves the value as a real one does and can be used for nothing.
	trial, err := openSession(&c.t, tpm2.TPMSETrial, c.srk)
	if err != nil {
		return explain("start trial session", err)
	}
	_, err = tpm2.PolicySecret{
		AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: use{session: s, auth: auth}},
		PolicySession: trial.handle,
	}.Execute(&c.t)
	return errors.Join(ownership("check the recovery key", err), trial.flush(&c.t))
}

// Forget removes indexes, whatever they are, with the recovery key, which a TPM without an owner does not ask for; absent
// ones are fine. Their Names
// come from the TPM itself and need not be believed: the command is bound to the Name, and a wrong one
// is refused.
func (c *Chip) Forget(recoveryKey string, handles ...tpm2.TPMHandle) error {
	has, err := c.permanent()
	if err != nil {
		return err
	}
	return c.forget(has.owner(recoveryKey), handles...)
}

func (c *Chip) forget(owner []byte, handles ...tpm2.TPMHandle) error {
	s, err := c.plain()
	if err != nil {
		return err
	}
	for _, h := range handles {
		r, err := tpm2.NVReadPublic{NVIndex: h}.Execute(&c.t)
		if errors.Is(err, tpm2.TPMRCHandle) {
			continue
		}
		if err != nil {
			return explain(fmt.Sprintf("inspect index %#x", uint32(h)), err)
		}
		_, err = tpm2.NVUndefineSpace{
			AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: use{session: s, auth: owner}},
			NVIndex:    tpm2.NamedHandle{Handle: h, Name: r.NVName},
		}.Execute(&c.t)
		if err != nil {
			return ownership(fmt.Sprintf("remove index %#x", uint32(h)), err)
		}
	}
	return nil
}

// Disown gives the TPM back: it removes S, C, E and J and empties the authorisation values that
// provisioning set, in an order that can be repeated after a power cut. V stays, so that no older
// release runs on the box again, and so does the value that C continues from.
func (c *Chip) Disown(recoveryKey string) error {
	has, err := c.permanent()
	if err != nil {
		return err
	}
	// A TPM that was cleared has no key that a session could be salted to.
	if err := c.persistRoot(has.owner(recoveryKey)); err != nil {
		return err
	}
	if err := c.Forget(recoveryKey, HandleS, HandleE, HandleJ, HandleC); err != nil {
		return err
	}
	// Owner last: it is what the recovery key is checked with, should the power fail in between.
	for _, h := range []struct {
		name   string
		handle tpm2.TPMHandle
		set    bool
		auth   []byte
	}{
		{"lockout", tpm2.TPMRHLockout, has.lockoutSet, LockoutAuth(recoveryKey)},
		{"owner", tpm2.TPMRHOwner, has.ownerSet, OwnerAuth(recoveryKey)},
	} {
		if !h.set {
			continue
		}
		s, err := c.plain()
		if err != nil {
			return err
		}
		_, err = tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: h.handle, Auth: emptying{use{session: s, auth: h.auth}}},
		}.Execute(&c.t)
		if err != nil {
			return ownership("empty the "+h.name+" authorisation", err)
		}
	}
	return nil
}

// emptying is the use of a session by a command that empties the value which authorises it: the TPM
// answers with the new one (part 3, 24.8).
type emptying struct{ use }

// Validate implements tpm2.Session.
func (e emptying) Validate(rc tpm2.TPMRC, cc tpm2.TPMCC, params []byte, names []tpm2.TPM2BName, n int, r *tpm2.TPMSAuthResponse) error {
	e.auth = nil
	return e.use.Validate(rc, cc, params, names, n, r)
}

// Begin makes C on a TPM that has no owner yet and gives its first value, so that a provisioning token
// can name it: C never has the same value twice on one TPM, even after TPM2_Clear. A C that is there
// already is left alone.
func (c *Chip) Begin() (uint64, error) {
	has, err := c.permanent()
	if err != nil {
		return 0, err
	}
	if has.ownerSet {
		return 0, fmt.Errorf("make C: %w", ErrOwned)
	}
	if err := c.persistRoot(nil); err != nil {
		return 0, err
	}
	state, value, err := c.readIndex(indexC(), false)
	if err != nil || state == Written {
		return toCounter(value), err
	}
	if state == Absent {
		if err := c.define(indexC(), nil, nil); err != nil {
			return 0, err
		}
	}
	if err := c.increment(false); err != nil {
		return 0, err
	}
	value, err = c.nvRead(indexC().at(true, false))
	return toCounter(value), explain("read C back", err)
}

// toCounter is 0 for anything but the eight bytes of a counter.
func toCounter(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Endorsement is the Name of the TPM's ECC endorsement key, which identifies the chip before anything
// was provisioned. It is derived anew, since nobody has to keep it.
func (c *Chip) Endorsement() ([]byte, error) {
	key, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(tpm2.ECCEKTemplate),
	}.Execute(&c.t)
	if err != nil {
		return nil, explain("derive the endorsement key", err)
	}
	_, err = tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(&c.t)
	return key.Name.Buffer, explain("flush the endorsement key", err)
}
