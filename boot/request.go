package boot

import (
	"context"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/request"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// request carries out what core left in LEDGER, once, and leaves the outcome there.
func (c *check) request(ctx context.Context) {
	if c.disk.Ledger == "" {
		return
	}
	var text string
	var found error
	m, err := c.Open(c.disk.Ledger, true)
	if err != nil {
		return // the verdict says so already
	}
	s := ledger.Open(m)
	text, found = s.ReadRequest()
	if last, err := s.ReadOutcome(); err == nil {
		c.outcome = last
	}
	if err := m.Close(); err != nil {
		c.Say("warning: close LEDGER: %v", err)
	}
	switch {
	case errors.Is(found, ledger.ErrEmpty):
		return
	case found != nil:
		c.outcome = fmt.Sprintf("refused: the request in LEDGER: %v", found)
	default:
		if _, err := c.operator.Request(ctx, text); err != nil {
			c.Say("request not carried out: %v", err)
		}
	}
	err = c.withLedger(func(s *ledger.Store) error { return errors.Join(s.ClearRequest(), s.WriteOutcome(c.outcome)) })
	if err != nil {
		c.Say("warning: record the outcome of a request: %v", err)
	}
}

// Request implements recovery.Box: verify, spend, carry out. The outcome is kept for LEDGER.
func (o *operator) Request(ctx context.Context, text string) (string, error) {
	what, done, err := o.carryOut(ctx, text)
	if err != nil {
		o.outcome = fmt.Sprintf("%s refused at counter %d: %v", what, o.facts.TPM.Counter, err)
		return "", err
	}
	o.outcome = fmt.Sprintf("%s carried out at counter %d: %s", what, o.facts.TPM.Counter, done)
	o.Say("request: %s", o.outcome)
	return done, nil
}

func (o *operator) carryOut(ctx context.Context, text string) (what, done string, err error) {
	what = "a request"
	r, err := request.Parse(text)
	if err != nil {
		return what, "", err
	}
	what = r.String()
	keys, err := request.Keys(o.Policy.OwnerKeys)
	if err != nil {
		return what, "", err
	}
	who, err := r.Verify(keys)
	if err != nil {
		return what, "", err
	}
	what += " by owner key " + who
	name := o.boxName() // first: on an unprovisioned box it makes the counter
	if err := r.Fits(name, o.facts.TPM.Counter); err != nil {
		return what, "", err
	}
	if err := o.applicable(r.Request); err != nil {
		return what, "", err
	}
	if r.Kind != request.Provision { // that one is spent by the provisioning itself
		if err := o.spend(ctx, r.Request, who); err != nil {
			return what, "", fmt.Errorf("spend the request: %w", err)
		}
	}
	switch r.Kind {
	case request.Validate:
		done, err = o.Validate(ctx, r.Device)
	case request.Recover:
		done, err = o.Recover(ctx, r.Device)
	case request.Accept:
		done, err = o.Accept(ctx, "")
	case request.Reset:
		done, err = o.Reset(ctx, "")
	case request.Provision:
		done, err = o.Provision(ctx)
	}
	return what, done, err
}

// applicable refuses before the request is spent. It also keeps a request from lifting the evidence of
// a TPM that was rolled back: what is spent moves C, and must not make the intents of a later life fit.
func (o *operator) applicable(r request.Request) error {
	switch {
	case r.Kind == request.Provision && o.j.Code != "unprovisioned":
		return errors.New("the box is provisioned")
	case r.Kind != request.Provision && o.j.Code == "unprovisioned":
		return errors.New("the box is not provisioned; only a provisioning token helps")
	case r.Device != "" && !o.j.Released():
		return errors.New("the box is isolated as a whole")
	case r.Kind == request.Validate && r.Device == "":
		if j := verdict.Validated(o.facts); o.inOrder().Released() || !j.Released() {
			return fmt.Errorf("there is nothing that can be validated: %s", j.Reason)
		}
	case r.Kind == request.Accept:
		if j := verdict.Accepted(o.facts); o.inOrder().Released() || !j.Released() || j.Action != verdict.Rebase {
			return fmt.Errorf("it takes the recovery key at the console: %s", o.j.Reason)
		}
	}
	return nil
}

// spend moves C, so that nothing signed for its old value is carried out again. On a box in order that is an
// attempt in the journal. On an isolated one it is the counter alone: an intent beside it could make a chain
// fit that does not.
func (o *operator) spend(ctx context.Context, r request.Request, who string) error {
	if o.inOrder().Released() {
		_, err := o.attempt(ctx, ledger.Intent{Target: "recovery:" + string(r.Kind), Signer: "owner key " + who})
		return err
	}
	if _, err := o.chip.Increment(); err != nil {
		return err
	}
	o.again(ctx)
	return nil
}
