package boot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/boot/facts"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
)

const (
	// recoveryWait is how long an isolated box waits for its operator when the policy says nothing.
	recoveryWait = 10 * time.Second
	// logLines bounds what the console can show of what init has said.
	logLines = 200
)

// Entry is how the recovery console is come by.
type Entry struct {
	Why string
	// Wait is how long somebody has to ask for the console; 0 is for one that was asked for already.
	Wait time.Duration
}

// recovering is the part of a check that the recovery console and signed requests need.
type recovering struct {
	operator *operator
	end      recovery.End
	// seen is what was read back, once somebody looked.
	seen []observed
	// ownerKey is the recovery key that was typed and checked, for what provisioning does with one.
	ownerKey string
	// outcome is that of the last signed request.
	outcome string
	// rescue is the stick that the image was started from, nil when it was not.
	rescue *stick
	logMu  sync.Mutex
	log    []string
}

// recover is between the box's verdict and everything that follows from it: a signed request is
// carried out, and the operator may talk to the box. What they change is in c.j afterwards.
func (c *check) recover(ctx context.Context) {
	c.operator = &operator{check: c}
	c.request(ctx)
	e, offer := c.entry()
	if !offer || c.Console == nil {
		return
	}
	c.end = c.Console(ctx, recovery.New(c.operator), e)
	if c.end == recovery.Reboot || c.end == recovery.PowerOff {
		// Nothing of what comes would be used; the hardware is left as an isolated box has it.
		c.fail("ended", "the operator ended this boot in the recovery console")
	}
}

// entry says whether the recovery console is offered, and why.
func (c *check) entry() (Entry, bool) {
	wait := time.Duration(c.Policy.RecoveryWait) * time.Second
	if wait == 0 {
		wait = recoveryWait
	}
	switch {
	case c.RecoveryAsked != "":
		return Entry{Why: c.RecoveryAsked}, true
	case c.rescue != nil:
		return Entry{Why: "the image was started from a rescue stick"}, true
	case c.j.Code == "unprovisioned" && c.SetupMode:
		return Entry{Why: "the box is unprovisioned, and its firmware takes Secure Boot keys"}, true
	case !c.j.Released():
		return Entry{Why: "the box is isolated (" + c.j.Code + ")", Wait: wait}, true
	}
	return Entry{}, false
}

// again reads TPM and LEDGER after something was done to them. A box that was released is judged anew; an
// isolated one keeps its verdict until something releases it for a reason.
func (c *check) again(ctx context.Context) {
	c.readCounter(c.facts.TPM.Policy)
	if m, err := c.Open(c.disk.Ledger, true); err != nil {
		c.facts.Ledger = verdict.LedgerFacts{Health: verdict.LedgerMissing, Detail: err.Error()}
	} else {
		c.facts.Ledger = facts.Ledger(ledger.Open(m))
		if err := m.Close(); err != nil {
			c.Say("warning: close LEDGER: %v", err)
		}
	}
	if j := c.inOrder(); j.Released() {
		*j = verdict.Judge(c.facts)
	}
}

// attempt opens an attempt as core would, in the order that can be cut anywhere: intent, journal,
// counter. This boot closes it.
func (c *check) attempt(ctx context.Context, i ledger.Intent) (uint64, error) {
	j := c.inOrder()
	if c.chip == nil {
		return 0, errors.New("there is no TPM to count it with")
	}
	notYet := errors.New("the box has to be in order before a part of it is changed; see to the box first")
	if !j.Released() || j.Action != verdict.None {
		return 0, notYet
	}
	if j.Ahead { // an intent is chained that was never counted; it did nothing
		if _, err := c.chip.Increment(); err != nil {
			return 0, err
		}
		if c.again(ctx); !j.Released() {
			return 0, notYet
		}
	}
	if len(j.Open) >= ledger.MaxOpen {
		return 0, fmt.Errorf("%d attempts are open; reboot to close them", len(j.Open))
	}
	i.Number = c.facts.TPM.Counter + 1
	err := c.withLedger(func(s *ledger.Store) error {
		d, err := s.WriteIntent(i)
		if err != nil {
			return err
		}
		return c.chip.Extend(d)
	})
	if err != nil {
		return 0, err
	}
	if _, err := c.chip.Increment(); err != nil {
		return 0, err
	}
	c.again(ctx)
	if !j.Released() {
		return 0, fmt.Errorf("after attempt %d was opened: %s", i.Number, j.Reason)
	}
	return i.Number, nil
}

// withLedger runs use on LEDGER, opened for writing.
func (c *check) withLedger(use func(*ledger.Store) error) error {
	m, err := c.Open(c.disk.Ledger, false)
	if err != nil {
		return err
	}
	return errors.Join(use(ledger.Open(m)), m.Close())
}

// look binds and reads back all devices, once; the boot goes on with what was seen.
func (c *check) look(ctx context.Context) []observed {
	if c.seen == nil {
		c.seen = c.readBack(ctx)
	}
	return c.seen
}

// remember keeps what init says for the console's log.
func (c *check) remember(say func(string, ...any)) func(string, ...any) {
	return func(format string, args ...any) {
		say(format, args...)
		c.logMu.Lock()
		defer c.logMu.Unlock()
		if len(c.log) == logLines {
			c.log = c.log[1:]
		}
		c.log = append(c.log, fmt.Sprintf(format, args...))
	}
}
