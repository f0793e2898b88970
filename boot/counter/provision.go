package counter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// journalSeed is J's first extend; a J that starts otherwise was not made by this code.
const journalSeed = "ratchet journal 1"

// OwnerAuth and LockoutAuth derive the authorisation values of the two hierarchies from the recovery
// key, as 32 hexadecimal characters that tpm2-tools take as they are. Text has one more use:
// go-tpm 0.9.8 cuts an authorisation value at its first zero byte when it computes an HMAC.
func OwnerAuth(recoveryKey string) []byte { return derive(recoveryKey, "ratchet owner 1") }

// LockoutAuth derives the value of the lockout hierarchy, as OwnerAuth does of the owner's.
func LockoutAuth(recoveryKey string) []byte { return derive(recoveryKey, "ratchet lockout 1") }

func derive(recoveryKey, purpose string) []byte {
	m := hmac.New(sha256.New, CanonicalKey(recoveryKey))
	m.Write([]byte(purpose))
	return []byte(hex.EncodeToString(m.Sum(nil)[:16]))
}

// Provision makes the TPM ready and leaves E defined but unwritten; the caller renews K, writes the
// ledger and then E. It can be repeated after a power cut at any step: E is defined before C and J and written
// last, so a box whose E was never written is one whose provisioning did not end.
func (c *Chip) Provision(recoveryKey string, p Policy) error {
	if recoveryKey == "" {
		return errors.New("provision: no recovery key")
	}
	has, err := c.permanent()
	if err != nil {
		return err
	}
	if !has.ownerSet && has.lockoutSet { // ours is set after the owner's
		return fmt.Errorf("provision: %w: %s", ErrOwned, has.taken())
	}
	owner := OwnerAuth(recoveryKey)
	if err := c.persistRoot(has.owner(recoveryKey)); err != nil {
		return err
	}
	// Before anything changes: a key that is not the owner's would be a wrong guess at lockout, too.
	if has.ownerSet {
		err = c.proveOwner(owner)
	} else {
		err = c.room()
	}
	if err != nil {
		return err
	}
	if err := c.takeOwnership(has, recoveryKey); err != nil {
		return err
	}
	return c.defineAll(owner, p)
}

// permanent is the part of TPMA_PERMANENT that provisioning looks at (part 2, 8.6).
type permanent struct {
	ownerSet, lockoutSet, clearDisabled bool
}

// owner is the owner's authorisation value: that of the recovery key, once it is set.
func (p permanent) owner(recoveryKey string) []byte {
	if !p.ownerSet {
		return nil
	}
	return OwnerAuth(recoveryKey)
}

// taken says who keeps the TPM from being provisioned with a new recovery key, "" for nobody.
func (p permanent) taken() string {
	const clear = "clear the TPM in the firmware setup"
	switch {
	case p.ownerSet:
		return "the TPM has an owner, from a provisioning that was cut off or another system: it takes the recovery key that was shown then, or " + clear
	case p.lockoutSet:
		return "another system has set the TPM's lockout authorisation, as Windows does: " + clear
	}
	return ""
}

// Taken says why a TPM cannot be provisioned with a new recovery key, "" when nothing speaks against it.
func (c *Chip) Taken() (why string, err error) {
	has, err := c.permanent()
	return has.taken(), err
}

func (c *Chip) permanent() (permanent, error) {
	var none permanent
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTPermanent), PropertyCount: 1}.Execute(&c.t)
	if err != nil {
		return none, explain("read TPM properties", err)
	}
	props, err := r.CapabilityData.Data.TPMProperties()
	if err != nil || len(props.TPMProperty) != 1 || props.TPMProperty[0].Property != tpm2.TPMPTPermanent {
		return none, errors.New("read TPM properties: unexpected answer")
	}
	v := props.TPMProperty[0].Value
	return permanent{ownerSet: v&1 != 0, lockoutSet: v&4 != 0, clearDisabled: v&(1<<8) != 0}, nil
}

// persistRoot creates the storage root key unless it is there. Its template has no randomness, so a
// repetition gives the same key.
func (c *Chip) persistRoot(owner []byte) error {
	switch err := c.root(); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrUnprovisioned):
		return err
	}
	// No storage root key means nothing to salt with yet. The session proves the value by HMAC, so
	// it is not sent; it has too much entropy to be searched for.
	session := func() tpm2.Session { return tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, tpm2.Auth(owner)) }
	key, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session()},
		InPublic:      tpm2.New2B(tpm2.ECCSRKTemplate),
	}.Execute(&c.t)
	if err != nil {
		return ownership("create storage root key", err)
	}
	_, err = tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: session()},
		ObjectHandle:     tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name},
		PersistentHandle: HandleSRK,
	}.Execute(&c.t)
	_, flush := tpm2.FlushContext{FlushHandle: key.ObjectHandle}.Execute(&c.t)
	if err := errors.Join(err, flush); err != nil {
		return ownership("make storage root key persistent", err)
	}
	return c.root()
}

// room makes sure that there is room for all our indices as long as nothing has changed for the owner of the TPM: it
// defines one that is as large and removes it, or what a power cut left of it.
func (c *Chip) room() error {
	x := newIndex("room", handleRoom, sizeRoom, nil, tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, AuthWrite: true})
	if err := c.define(x, nil, nil); err != nil && !errors.Is(err, tpm2.TPMRCNVDefined) {
		return err
	}
	return c.undefine(x, nil)
}

// takeOwnership sets owner and lockout authorisation and forbids TPM2_Clear. Which values are set
// already is known from the TPM's properties: one wrong guess at lockout would lock it for a day.
func (c *Chip) takeOwnership(has permanent, recoveryKey string) error {
	set := func(h tpm2.TPMHandle, isSet bool, value []byte) error {
		if isSet {
			return nil
		}
		s, err := c.plain()
		if err != nil {
			return err
		}
		_, err = tpm2.HierarchyChangeAuth{
			AuthHandle: tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)},
			NewAuth:    tpm2.TPM2BAuth{Buffer: value},
		}.Execute(&c.t, use{session: s, hide: true})
		return err
	}
	if err := set(tpm2.TPMRHOwner, has.ownerSet, OwnerAuth(recoveryKey)); err != nil {
		return ownership("set owner authorisation", err)
	}
	lockout := LockoutAuth(recoveryKey)
	if err := set(tpm2.TPMRHLockout, has.lockoutSet, lockout); err != nil {
		return ownership("set lockout authorisation", err)
	}
	if has.clearDisabled {
		return nil
	}
	s, err := c.plain()
	if err != nil {
		return err
	}
	return ownership("disable TPM2_Clear", disableClear().run(&c.t, use{session: s, auth: lockout}))
}

func (c *Chip) defineAll(owner []byte, p Policy) error {
	policy, err := p.E()
	if err != nil {
		return err
	}
	s, err := c.Read(policy, false)
	if err != nil {
		return err
	}
	if s.E >= Written {
		return errors.New("provision: E is written already")
	}
	for _, x := range []struct {
		index
		state State
	}{{indexE(policy), s.E}, {indexC(), s.C}, {indexJ(), s.J}} {
		if x.state != Absent {
			continue
		}
		if err := c.define(x.index, owner, nil); err != nil {
			return err
		}
	}
	if s.C != Written {
		if err := c.increment(false); err != nil {
			return err
		}
	}
	if s.J != Written {
		if err := c.extend(sha256.Sum256([]byte(journalSeed)), false); err != nil {
			return err
		}
	}
	return c.makeV(s.V, owner)
}

// define makes an index whose authorisation value is auth, hidden on the bus.
func (c *Chip) define(x index, owner, auth []byte) error {
	s, err := c.plain()
	if err != nil {
		return err
	}
	_, err = tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: use{session: s, auth: owner, hide: true}},
		Auth:       tpm2.TPM2BAuth{Buffer: auth},
		PublicInfo: tpm2.New2B(x.public),
	}.Execute(&c.t)
	return ownership("define "+x.name, err)
}

// undefine removes an index that has just these attributes.
func (c *Chip) undefine(x index, owner []byte) error {
	h, err := x.named()
	if err != nil {
		return err
	}
	s, err := c.plain()
	if err != nil {
		return err
	}
	_, err = tpm2.NVUndefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: use{session: s, auth: owner}}, NVIndex: h,
	}.Execute(&c.t)
	return ownership("undefine "+x.name, err)
}

// Rebind replaces an E whose policy is old, for another PCR 7 or other policy keys, by an unwritten E
// under p. It needs the recovery key, which only a development image has. A power cut inside it leaves
// no E at all: write the ledger before it, from which the next boot knows how to go on.
func (c *Chip) Rebind(recoveryKey string, old Digest, p Policy) error {
	policy, err := p.E()
	if err != nil {
		return err
	}
	owner := OwnerAuth(recoveryKey)
	if err := c.undefine(indexE(old).at(true, false), owner); err != nil {
		return err
	}
	return c.define(indexE(policy), owner, nil)
}

// ownership turns a refused authorisation into the one thing it can mean here.
func ownership(verb string, err error) error {
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return fmt.Errorf("%s: %w: the recovery key does not fit; clear the TPM in the firmware setup to give it up", verb, ErrOwned)
	}
	return explain(verb, err)
}
