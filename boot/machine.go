package boot

import (
	"context"
	"io"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/fetch"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// Hardware is what init needs of package hw.
type Hardware interface {
	// Freeze stops the kernel from binding drivers by itself.
	Freeze() error
	// Functions lists PCI functions that are a NIC or a disk controller; nothing is bound.
	Functions() ([]hw.Device, error)
	// BindStorage binds one storage controller and returns the disks behind it.
	BindStorage(ctx context.Context, place string) ([]hw.Device, error)
	// HideOthers takes all disks behind a storage controller but one out of the kernel, until Bind.
	HideOthers(place, node string) error
	// Bind binds a function and returns its devices, read back; NIC links stay down.
	Bind(ctx context.Context, place string) ([]hw.Device, error)
	// Isolate takes driver and bus mastering from a function.
	Isolate(place string) error
	// MarkBoot tells which disk is the boot disk.
	MarkBoot(node string)
}

var _ Hardware = (*hw.System)(nil)

// Disks looks at disks whose controller is bound, without opening a filesystem.
type Disks interface {
	// Partitions gives the device nodes of a disk's partitions by GPT partition name.
	Partitions(node string) (map[string]string, error)
	// Holds reports whether the disk has the partition with a unique GUID, and its GPT name.
	Holds(node, guid string) (name string, ok bool, err error)
}

// Medium is an open LEDGER.
type Medium interface {
	ledger.Medium
	Close() error
}

// Machine is what Check works on.
type Machine struct {
	Policy   Policy
	TPM      func() (transport.TPMCloser, error)
	Hardware Hardware
	Disks    Disks
	// Open opens a LEDGER partition by its node.
	Open func(node string, readOnly bool) (Medium, error)
	// Slots describes the image slots of a disk with these partitions, OpenSlot opens one by its node; nil when
	// there are none.
	Slots    func(node string, partitions map[string]string) ([]verdict.DiskSlot, error)
	OpenSlot func(node string) (SlotReader, error)
	// EditSlot opens one for writing, for the recovery console; Sticks finds update bundles for it.
	EditSlot func(node string) (SlotWriter, error)
	Sticks   Sticks
	// Fetch brings a file over one NIC, for the recovery console; nil where there is no network.
	Fetch func(ctx context.Context, link string, from fetch.From, limit int64, w io.Writer) error
	// BootPart is the unique GUID of the partition that the UKI was loaded from, as the stub leaves
	// it in LoaderDevicePartUUID; empty on a direct kernel boot.
	BootPart string
	// Controller is the place of the storage controller that had the boot disk last time, "" when that
	// is not known. It is a hint that anybody may have written: it only comes first.
	Controller string
	SecureBoot bool
	// Signed are the signed PCR policies that came with the image (package pcrsig); the one for the
	// PCR 11 that was measured counts.
	Signed [][]byte
	// Volumes opens STATE and DATA; nil leaves them alone, which only tests do.
	Volumes Volumes
	// StateTemplate opens the compressed start of an empty file system for a new STATE.
	StateTemplate func() (io.ReadCloser, error)
	// Clock is CLOCK_BOOTTIME.
	Clock func() time.Duration
	// Say prints one line for the operator.
	Say func(format string, args ...any)
	// Prepare is called once the box is released, while devices are read back: it loads what is needed
	// right after. nil is fine.
	Prepare func()
	// SetupMode says that the firmware takes Secure Boot keys, Enrollment writes them; nil on a machine
	// without UEFI.
	SetupMode  bool
	Enrollment Enrollment
	// Confirm asks the operator at the local console for a word; nil means there is nobody.
	Confirm func(ctx context.Context, question, word string) bool
	// Console lets somebody work on the box before the cap; nil means there is nobody.
	Console func(ctx context.Context, session *recovery.Console, e Entry) recovery.End
	// RecoveryAsked says why the console is to be entered without waiting, "" when nothing asks for it.
	RecoveryAsked string
}

// Result is what core gets.
type Result struct {
	Report verdict.Report
	// Controller is the place of the boot disk's controller, for the next boot; "" on an isolated box.
	Controller string
	// Config is the configuration from LEDGER, nil for the image's own.
	Config []byte
	// Secret is core's key, nil on an isolated box.
	Secret []byte
	// End is what the operator wants of the machine instead of core.
	End recovery.End
}
