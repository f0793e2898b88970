package verdict

import (
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/ledger"
)

// What to type next. The status commands work on the console of an isolated box too, and so does the
// first half of what leads into the recovery console.
const (
	nextConsole  = "ratchetctl recovery enter --reboot, then in the recovery console: "
	nextValidate = nextConsole + "validate"
	nextAccept   = nextConsole + "accept"
	nextDevice   = "ratchetctl hw list"
)

// Judge decides on the box.
func Judge(f Facts) Judgement {
	for _, step := range []func(Facts) *Judgement{judgeTPM, judgeImage, judgeMedium, judgeProvisioning} {
		if j := step(f); j != nil {
			return *j
		}
	}
	return judgeCounter(f)
}

func isolated(code, next, reason string, args ...any) *Judgement {
	return &Judgement{
		Verdict:    Verdict{Decision: Isolated, Code: code, Reason: fmt.Sprintf(reason, args...), Next: next},
		ConfigSlot: -1,
	}
}

func judgeTPM(f Facts) *Judgement {
	d := f.TPM.Detail
	switch f.TPM.Health {
	case Healthy, TPMUnowned:
		return nil
	case TPMAbsent:
		if f.TPMOptional && f.Development {
			j := &Judgement{ConfigSlot: -1}
			j.release("tpm-unused", "there is no TPM and this development image allows that: NOTHING IS CHECKED")
			if c := f.Ledger.Contents; c != nil && c.Configs[0].Err == nil {
				j.Config.Now, j.ConfigSlot = c.Configs[0].Digest, 0
			}
			return j
		}
		return isolated("tpm-absent", "power off, enable the TPM 2.0 in the firmware setup, power on",
			"the image requires a TPM 2.0 and there is none: %s", d)
	case TPMLockout:
		return isolated("tpm-lockout", "leave the box powered on until the lockout time has passed, then: reboot",
			"the TPM is in lockout and refuses every authorisation: %s", d)
	case TPMOtherKey:
		return isolated("tpm-owned", "power off, clear the TPM in the firmware setup, power on", "another system uses the TPM: %s", d)
	case TPMForged:
		return isolated("tpm-forged", "power off, look for a device between TPM and board, power on",
			"an answer was not authenticated by the TPM's storage root key: %s", d)
	case TPMWrongName:
		return isolated("tpm-name", nextAccept,
			"the TPM holds an index of our handle that is not ours: %s", d)
	}
	return isolated("tpm-error", "power off and on again; if that does not help: "+nextConsole+"status",
		"the TPM answers oddly: %s", d)
}

// judgeImage looks at what the TPM would refuse the running image for. It says so before hardware is
// touched; that the TPM refuses does not depend on it.
func judgeImage(f Facts) *Judgement {
	a := f.Approval
	switch {
	case a == nil:
		return nil
	case a.Problem != "":
		return isolated("image-unsigned", "boot an image that is signed with the policy key of this box",
			"the image has no policy that the TPM would take: %s", a.Problem)
	case a.Input:
		return isolated("image-input", "remove command line, credentials and extensions from the ESP and the boot entry, power off and on",
			"the image was started with input from outside, which nobody signed (PCR 12 or 13 is not zero)")
	case f.TPM.V == IndexWritten && a.Version < f.TPM.Floor:
		return isolated("image-revoked", "boot the newer image, from the other slot or from a USB stick",
			"the image has security version %d, and this box has moved on to %d: it was rolled back", a.Version, f.TPM.Floor)
	}
	return nil
}

func judgeMedium(f Facts) *Judgement {
	d := f.Ledger.Detail
	switch f.Ledger.Health {
	case Healthy:
		return nil
	case LedgerMissing:
		return isolated("ledger-missing", nextDevice, "the boot disk's LEDGER partition was not found: %s", d)
	case LedgerNewer:
		return isolated("ledger-newer", "boot the newer image", "LEDGER was written by a newer image: %s", d)
	}
	return isolated("ledger-corrupt", nextAccept, "LEDGER cannot be read: %s", d)
}

// judgeProvisioning handles every state in which the counter is not complete.
func judgeProvisioning(f Facts) *Judgement {
	t, c := f.TPM, f.Ledger.Contents
	// A counter alone was made for a provisioning token, which is bound to its value.
	bare := t.Health == TPMUnowned || t.E == IndexAbsent && t.J == IndexAbsent && (t.C == IndexAbsent || c.Factory())
	switch {
	case bare && c.Factory():
		return provision(f, nil, "the TPM holds no counter and the disk is as it left the factory")
	case bare:
		return isolated("tpm-cleared", nextAccept,
			"the disk knows this box (ledger %d) but the TPM holds no counter: it was cleared or replaced", newest(c).Sequence)
	case t.E == IndexUnwritten && torn(c):
		return provision(f, nil, "an earlier provisioning did not end")
	case t.E == IndexUnwritten:
		if l := newest(c); unfinished(t, l) {
			return provision(f, l, "an earlier provisioning did not end")
		}
		return isolated("expected-missing", nextAccept, "the expected value was never written, yet the disk knows another box")
	case t.E == IndexAbsent && f.Development && unfinished(t, newest(c)):
		return provision(f, newest(c), "replacing the expected value of an earlier image did not end")
	case t.E == IndexAbsent:
		return isolated("expected-missing", nextAccept, "the expected value was removed from the TPM")
	case t.E == IndexLocked:
		return isolated("tpm-not-reset", "power off and on again",
			"the expected value is locked since an earlier boot: the machine restarted without a reset of the TPM")
	case t.C != IndexWritten:
		return isolated("counter-missing", nextAccept, "the attempt counter is %s: it was removed from the TPM", t.C)
	case t.J != IndexWritten:
		return isolated("counter-missing", nextAccept, "the journal is %s: it was removed from the TPM", t.J)
	case t.V != IndexWritten:
		return isolated("counter-missing", nextAccept, "the security version is %s: it was removed from the TPM", t.V)
	case c.Factory():
		return isolated("ledger-factory", nextAccept,
			"the TPM knows this box (%d attempts) but the disk is as it left the factory: it was replaced or restored", t.Counter)
	}
	return nil
}

// provision is the gate: only a development image passes it by itself. l is a ledger whose
// provisioning was interrupted after it was written.
func provision(f Facts, l *ledger.Ledger, why string) *Judgement {
	if !f.Development && f.TPM.Taken != "" {
		return isolated("tpm-owned", nextAccept+", with the recovery key that was shown; without it clear the TPM in the firmware setup",
			"%s, but %s", why, f.TPM.Taken)
	}
	if !f.Development {
		return isolated("unprovisioned", "reboot and type at the serial console when asked: provision", "%s; it takes a confirmation at the console", why)
	}
	j := &Judgement{
		Action: Provision, Ledger: l, ConfigSlot: -1,
		Verdict: Verdict{Decision: Released, Code: "provisioned", Reason: why + "; the development image provisions itself"},
	}
	seed := ledger.Config{}
	if l != nil {
		seed = l.Config
	} else if f.Ledger.Contents.Configs[0].Err == nil {
		seed.Now = f.Ledger.Contents.Configs[0].Digest
	}
	if bad := j.resolveConfig(f, seed); bad != nil {
		return bad
	}
	return j
}

// Confirmed is the judgement on an unprovisioned box after its operator confirmed at the console.
func Confirmed(f Facts) Judgement {
	f.Development = true
	j := Judge(f)
	if j.Action != Provision {
		f.Development = false
		return Judge(f)
	}
	j.Reason = "the operator confirmed at the console that this box may be provisioned"
	return j
}

// unfinished reports whether l was written by this image for exactly the state that C and J are in:
// init lost power between the ledger and E. Only the owner can remove or define E, so this trusts
// nobody who could not do more.
func unfinished(t TPMFacts, l *ledger.Ledger) bool {
	return t.C == IndexWritten && t.J == IndexWritten && l.Counter == t.Counter && l.Journal == t.Journal &&
		l.Box.SRK == t.SRK && l.Box.Policy == t.Policy
}

// torn reports whether there is no whole ledger: the first one was being written, or not yet.
func torn(c *ledger.Contents) bool {
	for _, s := range c.Slots {
		if !errors.Is(s.Err, ledger.ErrEmpty) && !errors.Is(s.Err, ledger.ErrCorrupt) {
			return false
		}
	}
	return true
}

// newest is the readable ledger with the highest sequence; an empty one when there is none.
func newest(c *ledger.Contents) *ledger.Ledger {
	l := &ledger.Ledger{}
	for _, s := range c.Slots {
		if s.Err == nil && s.Ledger.Sequence >= l.Sequence {
			l = s.Ledger
		}
	}
	return l
}

// judgeCounter compares a complete counter with a ledger that was written.
func judgeCounter(f Facts) Judgement {
	l, bad := vouched(f)
	if bad != nil {
		return *bad
	}
	j := Judgement{Ledger: l, ConfigSlot: -1}
	if bad := j.chain(f); bad != nil {
		return *bad
	}
	if bad := j.resolveConfig(f, l.Config); bad != nil {
		return *bad
	}
	quiet := len(j.Open) == 0 && !j.Ahead
	switch {
	case f.TPM.E == IndexForeign && !f.Development:
		return foreign(f, l)
	case f.TPM.E == IndexForeign && !quiet:
		return *isolated("image-changed-open", "boot it once as it was before, which closes what is open",
			"%s, and %s left open", changed(f, l), attempts(len(j.Open)))
	case f.TPM.E == IndexForeign:
		j.Action = Rebind
		j.release("image-changed", "%s; the development image provisions itself again", changed(f, l))
	case quiet:
		j.release("clean", "the counter is at the expected value")
	case len(j.Open) == 0:
		j.release("closing", "an attempt was cut off before it counted, nothing was done")
	default:
		j.release("closing", "%s since the last boot, chained from %d to %d", attempts(len(j.Open)), f.TPM.Expected, f.TPM.Counter)
	}
	return j
}

// changed says why E is under another policy than this boot's.
func changed(f Facts, l *ledger.Ledger) string {
	if l.Box.PCR7 != f.TPM.PCR7 {
		return "Secure Boot is not what it was at provisioning (PCR 7)"
	}
	return "this image has other policy keys than image " + l.Box.Image + ", which provisioned the box"
}

// foreign isolates: what E is bound to is not here, so nothing could be closed and nothing unsealed.
func foreign(f Facts, l *ledger.Ledger) Judgement {
	if l.Box.PCR7 != f.TPM.PCR7 {
		return *isolated("secure-boot-changed", "set Secure Boot in the firmware setup as it was, or "+nextAccept, "%s", changed(f, l))
	}
	return *isolated("image-differs", "boot an image that is signed with the policy keys of image "+l.Box.Image+", or "+nextAccept, "%s", changed(f, l))
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

func (j *Judgement) release(code, reason string, args ...any) {
	j.Verdict = Verdict{Decision: Released, Code: code, Reason: fmt.Sprintf(reason, args...)}
}

// vouched finds the ledger whose digest is in E.
func vouched(f Facts) (*ledger.Ledger, *Judgement) {
	slots := f.Ledger.Contents.Slots
	var l, other *ledger.Ledger
	var corrupt, newer int
	for i, s := range slots {
		switch {
		case errors.Is(s.Err, ledger.ErrNewer):
			newer++
		case errors.Is(s.Err, ledger.ErrCorrupt):
			corrupt++
		case s.Err == nil && s.Digest == f.TPM.ExpectedLedger:
			l, other = s.Ledger, slots[1-i].Ledger
		}
	}
	switch {
	case l == nil && newer > 0:
		return nil, isolated("ledger-newer", "boot the newer image", "no ledger slot fits the expected value, and one was written by a newer image")
	case l == nil && corrupt > 0:
		return nil, isolated("ledger-corrupt", nextAccept, "%d of 2 ledger slots are corrupt and no other fits the expected value", corrupt)
	case l == nil && newest(f.Ledger.Contents).Counter > f.TPM.Counter:
		// Both slots were written after the state that the TPM is in.
		return nil, isolated("tpm-rolled-back", nextAccept,
			"LEDGER saw attempt %d, the TPM counts %d: the TPM's state was rolled back", newest(f.Ledger.Contents).Counter, f.TPM.Counter)
	case l == nil:
		return nil, isolated("ledger-differs", nextAccept, "no ledger slot fits the expected value: the disk was rolled back or altered")
	case l.Box.SRK != f.TPM.SRK:
		return nil, isolated("srk-differs", nextAccept, "the storage root key is not the one of this box: the TPM was replaced, or something answers for it")
	case l.Counter != f.TPM.Expected || l.Box.Policy != f.TPM.FoundPolicy:
		return nil, isolated("ledger-differs", nextAccept, "the ledger fits the expected value's digest but was written for counter %d", l.Counter)
	case other != nil && other.Sequence > l.Sequence && other.Counter > f.TPM.Counter:
		// A newer slot of the same counter is a boot that ended before it wrote E.
		return nil, isolated("tpm-rolled-back", nextAccept,
			"LEDGER saw attempt %d, the TPM counts %d: the TPM's state was rolled back", other.Counter, f.TPM.Counter)
	}
	return l, nil
}

// chain walks from E to C along the intents and to J.
func (j *Judgement) chain(f Facts) *Judgement {
	t, ring := f.TPM, f.Ledger.Contents.Ring
	if t.Counter < t.Expected {
		return isolated("tpm-rolled-back", nextAccept, "the counter is %d, below the expected %d: the TPM's state was rolled back", t.Counter, t.Expected)
	}
	var pending int
	for n := range ring.Intents {
		if n > t.Expected {
			pending++
		}
		if n > t.Counter+1 {
			return isolated("tpm-rolled-back", nextAccept,
				"LEDGER holds the intent of attempt %d, the TPM counts %d: the TPM's state was rolled back", n, t.Counter)
		}
	}
	n := t.Counter - t.Expected
	switch {
	case n > ledger.MaxOpen:
		return isolated("too-many-attempts", nextValidate, "%d attempts are open, at most %d can be checked", n, ledger.MaxOpen)
	case n > 0 && pending == 0:
		return isolated("counter-moved", nextValidate, "the counter moved from %d to %d and no intent says why: it was moved behind our back", t.Expected, t.Counter)
	}
	at := j.Ledger.Journal
	for number := t.Expected + 1; number <= t.Counter; number++ {
		i, ok := ring.Intents[number]
		if !ok {
			return isolated("intent-missing", nextValidate, "attempt %d of %d to %d has no readable intent", number, t.Expected+1, t.Counter)
		}
		at = ledger.Chain(at, ring.Digests[number])
		j.Open = append(j.Open, i)
	}
	if at == t.Journal {
		return nil
	}
	// J is extended before C is incremented: the power may have failed between the two.
	if last, ok := ring.Digests[t.Counter+1]; ok && ledger.Chain(at, last) == t.Journal {
		j.Ahead = true
		return nil
	}
	return isolated("intent-unchained", nextValidate, "the intents from %d to %d do not chain to the journal: they were altered, reordered or left out", t.Expected+1, t.Counter)
}
