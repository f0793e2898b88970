package verdict

import (
	"fmt"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// Returned judges one device that shows up while the box runs, by the same comparison as at boot. j is
// Judge's on the TPM and LEDGER as they are now: E, which nobody can write any more, vouches for the
// ledger that it compares with, so a device that was admitted and reads back as expected is released
// again. Nothing is closed and nothing is added here: what was never admitted waits for the next boot,
// and so does what an open attempt admits.
func Returned(j Judgement, o Observed) Verdict {
	if !j.Released() {
		return Verdict{
			Decision: Isolated, Code: "unproven", Next: j.Next,
			Reason: "it cannot be held against the ledger: " + j.Reason,
		}
	}
	s := settling{old: &ledger.Ledger{}, intents: map[string]ledger.Intent{}, unchecked: j.Code == "tpm-unused"}
	if j.Ledger != nil {
		s.old = j.Ledger
	}
	for _, i := range j.Open {
		s.intents[i.Target] = i
	}
	s.next = s.old.Clone()
	for _, d := range s.old.Devices {
		if d.ID != o.ID {
			continue
		}
		s.compare(d, o)
		v := s.verdicts[0].Verdict
		if v.Decision == Released {
			v.Code, v.Reason = "returned", fmt.Sprintf("it came back with firmware %s, as expected", o.Content)
		}
		return v
	}
	if i, open := s.intents[ledger.DeviceTarget(o.ID)]; open && i.From.Strength == ledger.StrengthAbsent && i.To.Matches(o.Content) {
		return Verdict{
			Decision: Quarantined, Code: "admitted-at-boot", Next: "ratchetctl power reboot",
			Reason: fmt.Sprintf("attempt %d admits it; the next boot reads it back and releases it", i.Number),
		}
	}
	s.meet(o, "")
	return s.verdicts[0].Verdict
}

// Pulled is the verdict on a device that went while the box runs.
func Pulled(place string) Verdict {
	return Verdict{
		Decision: Isolated, Code: "missing", Next: nextDevice,
		Reason: fmt.Sprintf("it was at %s and was pulled while the box runs", place),
	}
}
