package boot

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// signerConsole is in the journal for what was done with the recovery key.
const signerConsole = "recovery key at the console"

// operator is the box in the hands of whoever sits at the recovery console or signed a request.
type operator struct {
	*check
	// name is the endorsement key's, derived when an unprovisioned box is looked at.
	name string
}

var _ recovery.Box = (*operator)(nil)

// Status implements recovery.Box.
func (o *operator) Status(ctx context.Context) recovery.Status {
	t := o.facts.TPM
	s := recovery.Status{
		Verdict: o.j.Verdict, Image: o.Policy.Version, Slot: o.slot, Rescue: o.rescue != nil, SetupMode: o.SetupMode,
		TPM: t.C == verdict.IndexWritten, Counter: t.Counter, Expected: t.Expected,
		Ledger: o.ledgerLine(), Slots: o.slots(), Outcome: o.outcome, Name: o.boxName(),
	}
	if !o.j.Released() {
		// Nothing is bound on an isolated box to look at it.
		functions, err := o.Hardware.Functions()
		if err != nil {
			o.Say("warning: list hardware: %v", err)
		}
		for _, f := range functions {
			s.Devices = append(s.Devices, verdict.AllIsolated([]string{f.Place})...)
		}
		return s
	}
	seen := o.look(ctx)
	s.Devices = append(verdict.Settle(o.facts, o.j, flatten(seen)).Devices, unsupported(seen)...)
	return s
}

func (o *operator) ledgerLine() string {
	l := o.facts.Ledger
	if l.Health != verdict.Healthy {
		return string(l.Health) + ": " + l.Detail
	}
	switch c := l.Contents; {
	case c.Factory():
		return "as it left the factory"
	default:
		v := verdict.Vouched(o.facts)
		if v == nil {
			return "the TPM does not vouch for it"
		}
		return fmt.Sprintf("number %d, as the TPM vouches, written at counter %d", v.Sequence, v.Counter)
	}
}

// boxName is what a request has to name. An unprovisioned box goes by its endorsement key, and gets a
// counter that a token can name: the token is spent with that value.
func (o *operator) boxName() string {
	if o.chip == nil || o.facts.TPM.Health != verdict.Healthy && o.facts.TPM.Health != verdict.TPMUnowned {
		return ""
	}
	if o.j.Code != "unprovisioned" {
		return hex.EncodeToString(o.chip.SRK())
	}
	if o.name != "" {
		return o.name
	}
	name, err := o.chip.Endorsement()
	if err == nil {
		_, err = o.chip.Begin()
	}
	if err != nil {
		o.Say("warning: name the box for a provisioning token: %v", err)
		return ""
	}
	o.name = hex.EncodeToString(name)
	o.readCounter(o.facts.TPM.Policy)
	return o.name
}

// CheckKey implements recovery.Box.
func (o *operator) CheckKey(_ context.Context, key string) error {
	if o.chip == nil {
		return errors.New("there is no TPM to check the key with")
	}
	err := o.chip.CheckOwner(key)
	switch {
	case errors.Is(err, counter.ErrOwned):
		return recovery.ErrWrongKey
	case errors.Is(err, counter.ErrNoOwner), errors.Is(err, counter.ErrUnprovisioned):
		// The TPM was cleared; what the key still opens is the disk.
		return o.vaultKnows(key)
	}
	return err
}

// Provision implements recovery.Box.
func (o *operator) Provision(context.Context) (string, error) {
	if o.j.Code != "unprovisioned" {
		return "", fmt.Errorf("the box is not unprovisioned but %s: %s", o.j.Code, o.j.Reason)
	}
	j := verdict.Confirmed(o.facts)
	if !j.Released() {
		return "", errors.New(j.Reason)
	}
	o.j = j
	return "the box will be provisioned now; the recovery key is shown once", nil
}

// Validate implements recovery.Box.
func (o *operator) Validate(ctx context.Context, device string) (string, error) {
	if device != "" {
		return o.validateDevice(ctx, device)
	}
	if o.inOrder().Released() {
		return "", recovery.ErrNothing
	}
	j := verdict.Validated(o.facts)
	if !j.Released() {
		return "", fmt.Errorf("%s; next: %s", j.Reason, j.Next)
	}
	o.j = j
	return "validated; devices that are not what the ledger says stay isolated", nil
}

// validateDevice reads a device again. It passes with what the ledger, or an attempt that is open, says.
func (o *operator) validateDevice(ctx context.Context, id string) (string, error) {
	o.seen = nil
	v, d, err := o.device(ctx, id)
	switch {
	case err != nil:
		return "", err
	case v.Decision == verdict.Released:
		return id + " is released: " + v.Reason, nil
	case d.Err != "" || d.ID == "":
		return "", fmt.Errorf("%s: %s", v.Code, v.Reason)
	case d.KnownGood:
		return o.take(ctx, d, "known good firmware, validated at the console")
	}
	by, err := o.publishedWith(ctx, d)
	if err != nil {
		return "", fmt.Errorf("%s: %s; and no signed manifest knows that firmware: %w", v.Code, v.Reason, err)
	}
	return o.take(ctx, d, by)
}

// Recover implements recovery.Box.
func (o *operator) Recover(ctx context.Context, id string) (string, error) {
	v, d, err := o.device(ctx, id)
	switch {
	case err != nil:
		return "", err
	case v.Decision == verdict.Released:
		return "", recovery.ErrNothing
	case v.Code == "missing":
		return o.take(ctx, verdict.Observed{ID: id}, signerConsole)
	case d.Err != "":
		return "", fmt.Errorf("it cannot be read back: %s", d.Err)
	}
	return o.take(ctx, d, signerConsole)
}

// device is what the boot would decide on a device now, and what it read back as.
func (o *operator) device(ctx context.Context, id string) (v verdict.Verdict, d verdict.Observed, err error) {
	if !o.j.Released() {
		return v, d, errors.New("the box is isolated as a whole; see to the box first")
	}
	seen := flatten(o.look(ctx))
	devices := verdict.Settle(o.facts, o.j, seen).Devices
	i := slices.IndexFunc(devices, func(d verdict.Device) bool { return d.ID == id })
	if i < 0 {
		return v, d, fmt.Errorf("there is no device %s; type status for the list", id)
	}
	if k := slices.IndexFunc(seen, func(s verdict.Observed) bool { return s.ID == id }); k >= 0 {
		d = seen[k]
	}
	return devices[i].Verdict, d, nil
}

// take makes a device as it reads back the known one, as an attempt: counted, in the journal, and closed by
// this boot's own settling. A device that is gone is forgotten.
func (o *operator) take(ctx context.Context, d verdict.Observed, signer string) (string, error) {
	i := ledger.Intent{Target: ledger.DeviceTarget(d.ID), To: d.Content, Signer: signer}
	for _, known := range o.j.Ledger.Devices {
		if known.ID == d.ID {
			i.From = known.Content
		}
	}
	n, err := o.attempt(ctx, i)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: attempt %d takes it from %s to %s", d.ID, n, i.From, i.To), nil
}

// Accept implements recovery.Box. With a key it may define E anew, which a request cannot.
func (o *operator) Accept(ctx context.Context, key string) (string, error) {
	if o.inOrder().Released() {
		return "", recovery.ErrNothing
	}
	if o.facts.Ledger.Health == verdict.LedgerDamaged && o.disk.Ledger != "" {
		if err := o.formatLedger(); err != nil {
			return "", err
		}
		o.again(ctx)
	}
	if key != "" {
		if err := o.clearWay(ctx, key); err != nil {
			return "", err
		}
	}
	j := verdict.Accepted(o.facts)
	if !j.Released() {
		return "", fmt.Errorf("%s; next: %s", j.Reason, j.Next)
	}
	o.j, o.ownerKey = j, key
	return "accepted; this boot writes the new baseline", nil
}

// clearWay removes the indexes that stand in the way of a new E. Others stay: C and J go on, and V if it is ours.
func (o *operator) clearWay(ctx context.Context, key string) error {
	t := o.facts.TPM
	var remove []tpm2.TPMHandle
	switch {
	case t.Health == verdict.TPMWrongName:
		remove = []tpm2.TPMHandle{counter.HandleE, counter.HandleC, counter.HandleJ}
	case t.Health != verdict.Healthy:
		return nil
	case t.E == verdict.IndexForeign, t.E == verdict.IndexUnwritten,
		t.E == verdict.IndexWritten && (t.C != verdict.IndexWritten || t.J != verdict.IndexWritten || t.V != verdict.IndexWritten):
		remove = []tpm2.TPMHandle{counter.HandleE}
	}
	if len(remove) == 0 {
		return nil
	}
	err := o.chip.Forget(key, remove...)
	o.again(ctx)
	if err == nil && o.facts.TPM.Health == verdict.TPMWrongName {
		// V is what is left. It is ours only as long as nothing else is wrong: what it refuses would be forgotten with it.
		err = o.chip.Forget(key, counter.HandleV)
		o.again(ctx)
	}
	return err
}

func (o *operator) formatLedger() error {
	m, err := o.Open(o.disk.Ledger, false)
	if err != nil {
		return err
	}
	return errors.Join(ledger.Format(m, nil), m.Sync(), m.Close())
}

// Log implements recovery.Box.
func (o *operator) Log() []string {
	o.logMu.Lock()
	defer o.logMu.Unlock()
	return slices.Clone(o.log)
}
