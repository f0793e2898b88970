package boot

import (
	"errors"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/facts"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// readTPM reads the PCRs that the policy names, then C, E, J and V.
func (c *check) readTPM() {
	if c.chip == nil {
		return
	}
	var err error
	if c.pcrs, err = c.chip.ReadPCRs(); err != nil {
		c.facts.TPM = facts.Failed(err)
	} else {
		c.facts.Approval = c.approve()
		// Without keys there is no policy, and no E that is ours; the approval says so first.
		policy, _ := c.box.E()
		c.readCounter(policy)
	}
	// UEFI firmware should have closed the platform hierarchy, nothing does on a direct kernel boot.
	// Two commands are a small price for not having to believe it.
	if err := c.chip.ClosePlatform(); err != nil {
		c.facts.TPM = facts.Failed(err)
	}
}

func (c *check) readCounter(policy counter.Digest) {
	c.facts.TPM = facts.TPM(c.chip, policy, false)
	c.facts.TPM.PCR7, c.facts.TPM.PCR11, c.facts.TPM.Policy = c.pcrs.PCR7, c.pcrs.PCR11, policy
}

// provision makes or finishes the counter, and reads what it then is.
func (c *check) provision() error {
	key := c.ownerKey // of a box that its owner had accepted
	if key == "" {
		key = c.Policy.RecoveryKey
	}
	if key == "" {
		var err error
		if key, err = newRecoveryKey(); err != nil {
			return err
		}
		c.recoveryKey = key
		// Before the TPM takes it: a key that was set but never shown would be lost.
		c.Say("RECOVERY KEY, shown once, write it down: %s", key)
	}
	if err := c.chip.Provision(key, c.box); err != nil {
		return err
	}
	c.readCounter(c.facts.TPM.Policy)
	if t := c.facts.TPM; t.Health != verdict.Healthy {
		return errors.New(t.Detail)
	}
	// Before E is written: a provisioning that ends here starts again, with the recovery key at hand.
	return c.createVault(key)
}
