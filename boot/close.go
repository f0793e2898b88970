package boot

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// settle gives the devices their verdicts and closes what is open: ledger slot, sync, E, read back.
func (c *check) settle(seen []observed) {
	if !c.j.Released() {
		c.devices = verdict.AllIsolated(ids(seen))
		return
	}
	if c.j.Action == verdict.Provision {
		if err := c.provision(); err != nil {
			c.fail("provision-failed", "the box could not be provisioned: %v", err)
			c.devices = verdict.AllIsolated(ids(seen))
			return
		}
	}
	out := verdict.Settle(c.facts, c.j, flatten(seen))
	if out.Next != nil {
		if err := c.write(out.Next); err != nil {
			c.fail("close-failed", "the attempts could not be closed: %v", err)
			c.devices = verdict.AllIsolated(ids(seen))
			return
		}
	}
	c.images = out.Images
	c.devices, c.closed = append(out.Devices, unsupported(seen)...), out.Closed
}

// write makes next the ledger that E vouches for. Power may fail at any point: the old slot fits the
// old E until the new E is written, and only the new slot fits that.
func (c *check) write(next *ledger.Ledger) error {
	m, err := c.Open(c.disk.Ledger, false)
	if err != nil {
		return err
	}
	digest, err := ledger.Open(m).WriteLedger(next)
	if err := errors.Join(err, m.Close()); err != nil {
		return err
	}
	if c.j.Action == verdict.Rebind {
		if err := c.chip.Rebind(c.Policy.RecoveryKey, c.facts.TPM.FoundPolicy, c.box); err != nil {
			return err
		}
	}
	fault(c.Policy, faultBeforeE, c.Say)
	e := counter.Expected{Counter: next.Counter, Ledger: digest}
	if err := c.chip.WriteE(c.box, c.approval, e, c.j.Action != verdict.None && c.j.Action != verdict.Rebase); err != nil {
		return err
	}
	fault(c.Policy, faultAfterE, c.Say)
	c.facts.TPM.Expected = next.Counter
	if c.j.Adopt || c.j.Action == verdict.Provision {
		return c.dropIntents(next.Counter)
	}
	return nil
}

// dropIntents clears the intents of a life that the TPM does not know: another TPM's, or what came after the state
// that this one is in. Each boot would take them for a sign of a TPM that was rolled back. They go after E was written:
// if power fails in between, the box is isolated as before.
func (c *check) dropIntents(after uint64) error {
	m, err := c.Open(c.disk.Ledger, false)
	if err != nil {
		return err
	}
	return errors.Join(ledger.Open(m).DropIntents(after), m.Close())
}

// cap ends what this image may do to E, whatever the verdict. A cap that fails isolates: what comes
// after could still write E.
func (c *check) cap() {
	if c.chip == nil {
		return
	}
	word := counter.CapIsolated
	if c.j.Released() {
		word = counter.CapReleased
	}
	err := c.chip.Cap(word)
	if err == nil && c.j.Released() {
		err = c.chip.LockE(c.box)
	}
	if err = errors.Join(err, c.chip.Close()); err == nil {
		return
	}
	if !c.j.Released() {
		// There is no stronger verdict than the one given; its reason matters more than this.
		c.Say("warning: %v", err)
		return
	}
	c.fail("cap-failed", "PCR 11 and E could not be closed: %v", err)
	c.shut()
	c.isolateDevices()
	c.isolateAll()
}

// newRecoveryKey is 160 random bits in groups that people can type.
func newRecoveryKey() (string, error) {
	b := make([]byte, 20)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("make recovery key: %w", err)
	}
	s := base32.StdEncoding.EncodeToString(b)
	var key string
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			key += "-"
		}
		key += s[i : i+4]
	}
	return key, nil
}
