package boot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/facts"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// check is one boot, between its steps.
type check struct {
	Machine
	started time.Duration // when the TPM was opened
	chip    *counter.Chip // nil without a TPM
	pcrs    counter.PCRs
	// box and approval are what the TPM is shown to write E and to unseal.
	box      counter.Policy
	approval counter.Approval
	disk     verdict.Disk
	// controller is the place of the function that the boot disk is behind.
	controller string
	slot       string
	facts      verdict.Facts
	j          verdict.Judgement
	config     []byte
	devices    []verdict.Device
	images     []verdict.Image
	closed     int
	// recoveryKey is the one a confirmed provisioning made; it is printed once.
	recoveryKey string
	timing      verdict.Timing
	vault       sealedVault
	recovering
}

// Check runs the boot up to the cap. It always gives a Result; what went wrong is in the verdict.
func Check(ctx context.Context, m Machine) Result {
	c := &check{Machine: m}
	c.Say = c.remember(m.Say)
	c.timing.Init = m.Clock()
	tpm := c.openTPM()
	if p := guarded(func() { c.run(ctx) }); p != nil {
		c.fail("init-failed", "init failed: %v; this is a bug", p)
		c.devices = nil
		for _, end := range []func(){c.shut, c.isolateAll, c.cap} { // each, whatever the other meets
			if p := guarded(end); p != nil {
				m.Say("warning: isolate: %v", p)
			}
		}
	}
	if tpm != nil {
		if err := tpm.Close(); err != nil {
			m.Say("warning: close TPM: %v", err)
		}
	}
	return c.result()
}

// guarded runs f and returns what it panicked with.
func guarded(f func()) (p any) {
	defer func() { p = recover() }()
	f()
	return nil
}

// run is the order of the boot.
func (c *check) run(ctx context.Context) {
	if err := c.Hardware.Freeze(); err != nil {
		c.Say("warning: isolation is not guaranteed: %v", err)
	}
	early, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	medium := c.gather(early)
	c.judge(early)
	c.timing.BoxVerdict = c.Clock() - c.started
	c.tryVault()
	c.recover(ctx)
	ctx, cancel = context.WithTimeout(ctx, checkLimit)
	defer cancel()
	c.readConfig(medium)
	if medium != nil {
		if err := medium.Close(); err != nil {
			c.Say("warning: close LEDGER: %v", err)
		}
	}
	images, prepared, unsealed := c.readImages(), c.prepare(), c.unseal()
	seen := c.look(ctx)
	<-prepared
	<-unsealed
	c.facts.Images = <-images
	c.timing.ReadBack = c.Clock() - c.started - c.timing.BoxVerdict
	c.settle(seen)
	c.openVault()
	c.timing.AllVerdict = c.Clock() - c.started
	c.shutUnreleased() // before its disk goes
	c.isolateRest(seen)
	c.cap()
	c.quarantineNIC(ctx)
}

// prepare runs Prepare beside the read-back, which waits for devices most of the time.
func (c *check) prepare() <-chan struct{} {
	done := make(chan struct{})
	if !c.j.Released() || c.Prepare == nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		if p := guarded(c.Prepare); p != nil {
			c.Say("warning: prepare: %v", p)
		}
	}()
	return done
}

// gather reads the TPM and LEDGER at the same time: each mostly waits, and neither decides anything.
// They touch different fields of c.
func (c *check) gather(ctx context.Context) (medium Medium) {
	tpm := make(chan any)
	go func() { tpm <- guarded(c.readTPM) }()
	disk := guarded(func() {
		if medium = c.findLedger(ctx); medium != nil {
			c.facts.Ledger = facts.Ledger(ledger.Open(medium))
		}
	})
	for _, p := range []any{<-tpm, disk} {
		if p != nil {
			panic(p) // on to Check, which isolates
		}
	}
	return medium
}

// judge decides on the box; on a release image that was never provisioned it asks the operator.
func (c *check) judge(ctx context.Context) {
	c.facts.Development = c.Policy.Development
	c.facts.TPMOptional = c.Policy.TPM == "optional"
	c.facts.Image = c.Policy.Version
	c.j = verdict.Judge(c.facts)
	if c.j.Code == "unprovisioned" && c.chip != nil {
		// Before anybody is asked: a new key would be shown for nothing. It is a command more, so it is asked only here.
		why, err := c.chip.Taken()
		if c.facts.TPM.Taken = why; err != nil {
			c.facts.TPM = facts.Failed(err)
		}
		c.j = verdict.Judge(c.facts)
	}
	// In setup mode the question is a larger one, and the recovery console asks it.
	if c.j.Code == "unprovisioned" && c.Confirm != nil && !c.SetupMode {
		if c.Confirm(ctx, c.j.Reason, "provision") {
			c.j = verdict.Confirmed(c.facts)
		}
	}
	c.rescued()
}

// readConfig takes the configuration in force out of LEDGER while it is open.
func (c *check) readConfig(m Medium) {
	if !c.j.Released() || c.j.ConfigSlot < 0 {
		return
	}
	yaml, err := ledger.Open(m).ReadConfig(c.j.ConfigSlot)
	if err == nil && ledger.Sum(yaml) != c.j.Config.Now {
		err = errors.New("it changed while it was read")
	}
	if err != nil {
		c.fail("config-unreadable", "the configuration in LEDGER cannot be read: %v", err)
		return
	}
	c.config = yaml
}

// fail isolates the box after a step of init itself has failed.
func (c *check) fail(code, reason string, args ...any) {
	c.j = verdict.Judgement{ConfigSlot: -1, Verdict: verdict.Verdict{
		Decision: verdict.Isolated, Code: code, Reason: fmt.Sprintf(reason, args...), Next: "ratchetctl counter show",
	}}
	c.config, c.closed = nil, 0
}

func (c *check) result() Result {
	r := verdict.Report{
		Version: verdict.ReportVersion, Box: c.j.Verdict, Devices: c.devices, Images: c.images,
		Counter: c.facts.TPM.Counter, Expected: c.facts.TPM.Expected, Open: c.closed,
		Image: c.Policy.Version, Flavour: c.Policy.Flavour, Slot: c.slot, Development: c.Policy.Development,
		Provisioned:     c.j.Released() && c.j.Action != verdict.None && c.j.Action != verdict.Rebase,
		SecurityVersion: c.Policy.SecurityVersion, BundleKeys: c.Policy.BundleKeys, OwnerKeys: c.Policy.OwnerKeys, Fault: c.Policy.Fault,
		SecureBoot: c.SecureBoot, BootDisk: c.disk, Timing: c.timing,
		TPM: verdict.TPM{Present: c.chip != nil && c.facts.TPM.Health != verdict.TPMAbsent},
	}
	if c.Volumes != nil {
		r.BootDisk.State, r.BootDisk.Data = c.vault.state, c.vault.data
	}
	if !c.j.Released() {
		r.BootDisk = verdict.Disk{ID: c.disk.ID} // its controller has no driver any more
		c.controller, r.Images = "", nil
	}
	if c.chip != nil {
		r.TPM.Commands = c.chip.Commands()
		r.TPM.SRKName = hex.EncodeToString(c.chip.SRK())
		r.TPM.PCR7 = hex.EncodeToString(c.pcrs.PCR7[:])
		r.TPM.PCR11 = hex.EncodeToString(c.pcrs.PCR11[:])
		r.TPM.Floor = c.facts.TPM.Floor
	}
	return Result{Report: r, Controller: c.controller, Config: c.config, Secret: c.vault.coreKey, End: c.end}
}

// openTPM starts the span that the operator waits for.
func (c *check) openTPM() transport.TPMCloser {
	c.started = c.Clock()
	t, err := c.TPM()
	if err != nil {
		c.facts.TPM = facts.Failed(err)
		c.facts.TPM.Health = verdict.TPMAbsent
		return nil
	}
	c.chip = counter.Open(t)
	return t
}
