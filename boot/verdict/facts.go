package verdict

import "github.com/ratchetos/ratchet/boot/ledger"

// Health says whether the TPM could be asked.
type Health string

// The ledger's health is one of Healthy and the last three, the TPM's any of the others.
const (
	Healthy       Health = "healthy"
	TPMAbsent     Health = "absent"
	TPMLockout    Health = "lockout"
	TPMForged     Health = "forged"        // an answer failed its HMAC
	TPMWrongName  Health = "wrong-name"    // an index has other attributes
	TPMOtherKey   Health = "other-key"     // another system's key is where the storage root key belongs
	TPMError      Health = "error"         // anything else
	TPMUnowned    Health = "unprovisioned" // no storage root key
	LedgerMissing Health = "missing"       // no LEDGER partition, or no boot disk
	LedgerDamaged Health = "corrupt"       // not a LEDGER, or the medium fails
	LedgerNewer   Health = "newer"
)

// IndexState is the state of C, E, J or V.
type IndexState string

// What an index is found as. Only E can be foreign or locked.
const (
	IndexAbsent    IndexState = "absent"
	IndexUnwritten IndexState = "unwritten"
	IndexWritten   IndexState = "written"
	IndexForeign   IndexState = "foreign" // E under another policy, readable
	IndexLocked    IndexState = "locked"  // E still locked from an earlier boot
)

// Facts is everything known before a driver is bound, but for the boot disk's.
type Facts struct {
	Development bool
	// TPMOptional lets a development image run without any TPM.
	TPMOptional bool
	Image       string // version of the running image
	// Approval is the running image's; nil where nobody asks any more: core runs because init did.
	Approval *Approval
	TPM      TPMFacts
	Ledger   LedgerFacts
	// Slot is the running image's, "" on a direct boot and another name on a boot from a stick; Images are the slots that were read, after the verdict.
	Slot   string
	Images []SlotContent
}

// Approval is what the image's signed policy says of it.
type Approval struct {
	Problem string // why the TPM will not take it, "" when it is good
	Input   bool   // PCR 12 or 13 is not zero: the stub took something from outside of the image
	Version uint   // security version
}

// TPMFacts is the TPM's side.
type TPMFacts struct {
	Health  Health
	Detail  string // for people, with every Health but Healthy
	SRK     string // Name of the storage root key, raw
	PCR7    ledger.Digest
	PCR11   ledger.Digest
	Policy  ledger.Digest // E's policy as this boot would define it
	C, E, J IndexState
	Counter uint64
	// Expected and ExpectedLedger are the content of E, FoundPolicy the policy it was read under.
	Expected       uint64
	ExpectedLedger ledger.Digest
	FoundPolicy    ledger.Digest
	Journal        ledger.Digest
	// Taken says why the TPM cannot be provisioned with a new recovery key, "" when nothing speaks against it. It is read
	// where it matters, on an unprovisioned box.
	Taken string
	// V is its state, Floor the lowest security version that its bits leave to run.
	V     IndexState
	Floor uint
}

// LedgerFacts is the disk's side.
type LedgerFacts struct {
	Health Health
	Detail string
	// Contents is set when Health is Healthy.
	Contents *ledger.Contents
}

// Observed is a device as it read back in quarantine.
type Observed struct {
	ID, Place, Kind, Serial string
	Model                   string // as the catalogue or the device names it
	Content                 ledger.Content
	Err                     string // why it could not be bound or read
	// KnownGood says that the catalogue knows this firmware of this model to be good.
	KnownGood bool
}

// Action is what init has to do to the TPM before it writes E.
type Action string

const (
	// None leaves the TPM alone: E is this image's.
	None Action = ""
	// Provision makes the counter, or finishes making it.
	Provision Action = "provision"
	// Rebind replaces E of another image.
	Rebind Action = "rebind"
	// Rebase writes ledger and E anew for C and J as they are, under this image's policy.
	Rebase Action = "rebase"
)

// Judgement is the decision on the box.
type Judgement struct {
	Verdict
	Action Action
	// Adopt takes devices that the ledger does not know as the new baseline.
	Adopt bool
	// Ledger is the record that E vouches for; nil when isolated and on a factory box.
	Ledger *ledger.Ledger
	// Open are the attempts to close, in order. Ahead: J also holds the intent of one that never
	// counted.
	Open  []ledger.Intent
	Ahead bool
	// Config is the configuration in force and its slot; slot -1 is the image's own.
	Config     ledger.Config
	ConfigSlot int
}

// Released reports whether hardware may be used.
func (j *Judgement) Released() bool { return j.Decision == Released }
