package verdict

import "github.com/ratchetos/ratchet/boot/ledger"

// ConfigInForce says which configuration applies after the open attempts, and which slot holds it
// (-1: the image's own, which the zero digest stands for). ok is false when neither end of the last
// attempt, or not even the expected configuration, can be read.
func ConfigInForce(before ledger.Config, open []ledger.Intent, slots [2]ledger.ConfigSlot) (now ledger.Config, slot int, ok bool) {
	now = before
	for _, i := range open {
		if i.Target != ledger.TargetConfig {
			continue
		}
		// Both ends may be there: the one that was asked for wins, it is written whole or not at all.
		end := i.To.Digest
		if slotOf(end, slots) == missing {
			end = i.From.Digest
		}
		if end != now.Now {
			now = ledger.Config{Now: end, Before: now.Now}
		}
	}
	slot = slotOf(now.Now, slots)
	return now, slot, slot != missing
}

const missing = -2

func slotOf(d ledger.Digest, slots [2]ledger.ConfigSlot) int {
	if d == (ledger.Digest{}) {
		return -1
	}
	for i, s := range slots {
		if s.Err == nil && s.Digest == d {
			return i
		}
	}
	return missing
}

// resolveConfig sets the configuration in force, or says why there is none: the configuration
// decides over every device, so the whole box depends on it.
func (j *Judgement) resolveConfig(f Facts, before ledger.Config) *Judgement {
	now, slot, ok := ConfigInForce(before, j.Open, f.Ledger.Contents.Configs)
	if !ok {
		return isolated("config-unreadable", nextValidate,
			"the configuration in LEDGER is neither what it was (%s) nor what was asked for: a write was cut off or it was altered", before.Now.Short())
	}
	j.Config, j.ConfigSlot = now, slot
	return nil
}
