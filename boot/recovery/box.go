package recovery

import (
	"context"
	"errors"

	"github.com/ratchetos/ratchet/boot/verdict"
)

var (
	// ErrWrongKey says that the TPM does not know the recovery key.
	ErrWrongKey = errors.New("that is not the recovery key of this box")
	// ErrNoKey says that nothing of the box knows a recovery key any more, neither TPM nor disk.
	ErrNoKey = errors.New("neither TPM nor disk knows a recovery key any more")
	// ErrNothing says that there is nothing to do.
	ErrNothing = errors.New("nothing is wrong with it")
)

// Box is what the console works on. What succeeds comes back as a sentence for people.
type Box interface {
	// Status says where the box stands. It may read devices back, which takes a while the first time.
	Status(ctx context.Context) Status
	// CheckKey asks the TPM, or the disk when the TPM was cleared. Errors: ErrWrongKey, ErrNoKey, or why neither could be
	// asked.
	CheckKey(ctx context.Context, key string) error
	// Provision confirms that a new box may be provisioned.
	Provision(ctx context.Context) (string, error)
	// Validate releases what is proven good; device is "" for the box.
	Validate(ctx context.Context, device string) (string, error)
	// Recover takes one device as it is, the key having been checked.
	Recover(ctx context.Context, device string) (string, error)
	// Accept takes the box as it is.
	Accept(ctx context.Context, key string) (string, error)
	// Reset destroys keys, data and configuration, and makes the box a new one.
	Reset(ctx context.Context, key string) (string, error)
	// Reflash writes an image slot from a signed bundle: on a USB stick, or from URL [ADDRESS/LENGTH [GATEWAY]].
	Reflash(ctx context.Context, slot string, from []string) (string, error)
	// Request carries out a signed request.
	Request(ctx context.Context, text string) (string, error)
	// Enroll plans to write the image's Secure Boot keys; keep leaves the firmware's own beside them.
	Enroll(ctx context.Context, keep bool) (Enrollment, error)
	// Log is what init has said so far.
	Log() []string
}

// Status is what the console shows.
type Status struct {
	Verdict verdict.Verdict
	Image   string // version
	Slot    string // that it was started from, "" when unknown
	// Rescue says that the image was started from a rescue stick.
	Rescue bool
	// SetupMode says that the firmware takes Secure Boot keys.
	SetupMode bool
	// TPM says whether there is one that answers; Counter and Expected mean something then.
	TPM               bool
	Counter, Expected uint64
	Ledger            string // one line about LEDGER
	// Name is what a signed request has to name: hex, "" when the TPM does not say.
	Name    string
	Slots   []Slot
	Devices []verdict.Device
	// Outcome is that of the last signed request, "" when there was none.
	Outcome string
}

// Enrollment is a plan that waits for a yes.
type Enrollment struct {
	Text  string // lines without the last end
	Write func() error
}

// Slot is one image slot of the boot disk.
type Slot struct {
	Name  string // "A" or "B"
	State string // for people
	Bad   bool   // it needs to be written again
}

// End says what the console leaves to init.
type End int

// Stay is the zero value: the next line is for the console too.
const (
	Stay End = iota
	// Continue goes on with the boot under the verdict that now stands.
	Continue
	Reboot
	PowerOff
)
