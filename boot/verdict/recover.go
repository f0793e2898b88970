package verdict

import "github.com/ratchetos/ratchet/boot/ledger"

// Validated is the judgement on an isolated box that is to be released as far as what it is made of
// can be proven good. E must vouch for the ledger, so that an altered or older disk never passes;
// what does not fit are counter, journal and intents, and those are taken as they are. Devices and
// the configuration have to be what the vouched ledger says: a device that is not stays isolated.
//
// The judgement of Judge comes back when there is nothing to validate, or nothing to do it with.
func Validated(f Facts) Judgement {
	before := Judge(f)
	switch before.Code {
	case "counter-moved", "intent-missing", "intent-unchained", "too-many-attempts", "config-unreadable":
	default:
		return before
	}
	l, bad := vouched(f)
	if bad != nil || f.TPM.E != IndexWritten {
		return before
	}
	n, t := newest(f.Ledger.Contents), f.TPM
	if n.Sequence > l.Sequence && n.Counter > l.Counter && (n.Counter != t.Counter || n.Journal != t.Journal) {
		// Moving C hides that a TPM was rolled back; what LEDGER remembers of the later life does not go away. A ledger
		// for exactly the state that the TPM is in is one whose E was not written in time.
		before.Next = nextAccept
		before.Reason += "; and LEDGER holds a newer ledger than the TPM vouches for"
		return before
	}
	j := Judgement{Ledger: l, Action: Rebase, ConfigSlot: -1}
	if bad := j.chain(f); bad != nil {
		j.Open, j.Ahead = nil, false // attempts that cannot be proven did not happen
	}
	slots := f.Ledger.Contents.Configs
	now, slot, ok := ConfigInForce(l.Config, j.Open, slots)
	if !ok {
		if now, slot, ok = lastConfig(l.Config, slots); !ok {
			before.Next = nextAccept
			before.Reason += "; and the configuration is none that the ledger knows"
			return before
		}
	}
	j.Config, j.ConfigSlot = now, slot
	j.release("validated", "validated by an operator: %s", before.Reason)
	return j
}

// Vouched is the ledger that E vouches for, nil when there is none.
func Vouched(f Facts) *ledger.Ledger {
	if f.Ledger.Health != Healthy {
		return nil
	}
	l, _ := vouched(f)
	return l
}

// Accepted is the judgement once somebody with authority over the box – the recovery key, or a signed
// request – takes it as it is: counter and journal as they stand, devices as they read back, the
// ledger's configuration if it is whole. It needs a TPM and a LEDGER that answer and an E that this
// image can write or define; otherwise the judgement of Judge comes back.
func Accepted(f Facts) Judgement {
	before := Judge(f)
	t := f.TPM
	if judgeImage(f) != nil || f.Ledger.Health != Healthy || t.Health != Healthy && t.Health != TPMUnowned {
		return before
	}
	j := Judgement{Action: Provision, Adopt: true, Ledger: &ledger.Ledger{}, ConfigSlot: -1}
	switch {
	case t.E == IndexForeign || t.E == IndexLocked:
		return before
	case t.E == IndexWritten && t.C == IndexWritten && t.J == IndexWritten && t.V == IndexWritten:
		j.Action = Rebase
	case t.E == IndexWritten:
		return before // E goes first: provisioning writes it last
	}
	c := f.Ledger.Contents
	if l, bad := vouched(f); bad == nil {
		j.Ledger = l.Clone()
	} else if l := newest(c); l.Sequence > 0 {
		j.Ledger = l.Clone()
	}
	j.Ledger.Sequence = newest(c).Sequence // both slots stay below what comes next
	j.Ledger.Devices = nil
	j.Config, j.ConfigSlot = acceptedConfig(j.Ledger.Config, c)
	j.release("accepted", "accepted as it is by whoever owns the box: %s", before.Reason)
	return j
}

// acceptedConfig is the ledger's configuration, else the one before it, else what a factory disk
// brings along, else the image's own.
func acceptedConfig(wanted ledger.Config, c *ledger.Contents) (ledger.Config, int) {
	if !c.Factory() {
		if slot := slotOf(wanted.Now, c.Configs); slot != missing {
			return wanted, slot
		}
		if now, slot, ok := lastConfig(wanted, c.Configs); ok {
			return now, slot
		}
		return ledger.Config{}, -1
	}
	if c.Configs[0].Err == nil {
		return ledger.Config{Now: c.Configs[0].Digest}, 0
	}
	return ledger.Config{}, -1
}

// lastConfig goes back to the configuration before the one that cannot be read.
func lastConfig(c ledger.Config, slots [2]ledger.ConfigSlot) (ledger.Config, int, bool) {
	if c.Before == (ledger.Digest{}) {
		return ledger.Config{}, -1, false
	}
	slot := slotOf(c.Before, slots)
	return ledger.Config{Now: c.Before}, slot, slot != missing
}
