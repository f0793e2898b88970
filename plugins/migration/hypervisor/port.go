package hypervisor

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// Port is a host that can give VMs away and take them: what a plan is carried out through. Adapters are package qmp
// (through the agent vmhost on the host) and package libvirt.
//
// One move is the calls, in this order, of which each may be repeated with the same Move:
//
//	source.Begin → target.Prepare → source.Perform → Transfer.Switchover → (the volume is handed over)
//	→ Transfer.Complete → (commit is journalled) → target.Finish(moved) → (verified) → source.Confirm(moved)
//
// Until commit everything can be undone: Transfer.Cancel, target.Finish(!moved), source.Confirm(!moved), after which
// the source runs as before. After it the source must never run again (invariant M1).
type Port interface {
	Host
	// Capabilities is what the host can hold now.
	Capabilities(ctx context.Context) (model.Host, error)
	// Describe is the shape of a VM as it is now.
	Describe(ctx context.Context, vm string) (model.Shape, error)
	// Status tells whether a VM runs here. A VM that is not here is Absent, without an error.
	Status(ctx context.Context, vm string) (State, error)

	// Begin readies the source and returns what the target must be told.
	Begin(ctx context.Context, m Move) (Ticket, error)
	// Prepare starts the destination: stopped, and listening for the transfer.
	Prepare(ctx context.Context, m Move, t Ticket) (Arrival, error)
	// Perform starts the transfer and returns while it goes on.
	Perform(ctx context.Context, m Move, a Arrival, o Options) (Transfer, error)
	// Finish ends the move at the target. moved lets the VM run, and that is its first instruction there; otherwise
	// the destination is discarded, which is also right when there is none. With moved, ErrNoSuchVM means that this call
	// has not let it run; that it did, and ended, is another error.
	Finish(ctx context.Context, m Move, moved bool) error
	// Confirm ends the move at the source. moved ends the VM for good; otherwise it runs as before the move.
	Confirm(ctx context.Context, m Move, moved bool) error

	// Plug adds a device, Unplug takes one away and returns once the guest has let go of it.
	Plug(ctx context.Context, vm string, d Plug) error
	Unplug(ctx context.Context, vm, id string) error
	// Resize asks a virtio-mem device for bytes and returns what it has reached when ctx ends or it is done.
	Resize(ctx context.Context, vm, id string, bytes uint64) (uint64, error)
	// DirtyRate measures how many bytes a second the guest writes, over about the given time.
	DirtyRate(ctx context.Context, vm string, over time.Duration) (float64, error)
	// Channel connects to the guest's agent. The connection ends when the VM leaves the host.
	Channel(ctx context.Context, vm string) (net.Conn, error)
}

// Absent is the state of a VM that is not on the host.
const Absent State = "absent"

// Move names one move of one VM. ID is the same for each attempt at it that the journal holds; Epoch is the manager's:
// hosts remember the highest and refuse a lower one with ErrFenced (invariant M4).
type Move struct {
	ID    string
	Epoch uint64
	VM    string
	// Shape is what the destination shall be started as.
	Shape model.Shape
	// From and To are names of hosts.
	From, To string
}

// Ticket is what the source tells the target: opaque to the manager but for its shape.
type Ticket struct {
	Shape  model.Shape
	Cookie []byte // the hypervisor's own
}

// Arrival is where the transfer goes, told by the target.
type Arrival struct {
	Address string // as the source must dial it, "tcp:HOST:PORT" or "unix:/path"
	// Disks are NBD exports for mirrors of local disks, by the disk's ID.
	Disks  map[string]string
	Cookie []byte
}

// Options of a transfer. Streams are TLS unless Plain; a Plain one must be allowed by policy.
type Options struct {
	Limits
	Plain bool
	// PostCopy readies the capability; Transfer.PostCopy begins it.
	PostCopy bool
	// Channels is how many streams carry memory; 0 and 1 are one.
	Channels int
}

// Resident is implemented by ports that know how much of a VM's memory a first pass sends, in bytes: what was ever touched and is
// not zero. Looking takes milliseconds.
type Resident interface {
	Resident(ctx context.Context, vm string) (uint64, error)
}

// Watched is implemented by ports that know what their host has to do.
type Watched interface {
	Load(ctx context.Context) (load.Host, error)
}

// Witness is implemented by ports that can tell what became of a source before it ended.
type Witness interface {
	// StoodStill tells whether the source of a move, which is gone, is known not to have run since it stopped for the switch: a
	// hypervisor lets it run on by itself when the last word of the destination is lost.
	StoodStill(ctx context.Context, m Move) (bool, error)
}

// Limits can be changed while a transfer runs.
type Limits struct {
	Bandwidth uint64        // bytes a second; 0 is unlimited
	Rest      uint64        // bytes a second of what is left once the source has stopped for a post-copy; 0 is unlimited
	Downtime  time.Duration // the gap to aim at; 0 is the hypervisor's default
	Throttle  int           // percent of its time the guest is held back at most; 0 is never. See model.Host.ThrottlesItself
	// StopNow stops the source and leaves the rest to post-copy: the way to Transfer.PostCopy. It needs
	// Options.PostCopy, and cannot be taken back.
	StopNow bool
}

// slack is the part of a limit that a QEMU is not told of. It spends its bandwidth in slices of a tenth of a second, and eleven of
// them may lie in one second: by its own count it was at 1.06 to 1.09 of what it had been told in the worst seconds of moves
// under steered limits (make bench AREA=migration/links).
const slack = 25

// Told is the bandwidth to tell a QEMU, so that no second carries more than the limit; 0 is unlimited.
func (l Limits) Told() uint64 { return l.Bandwidth - l.Bandwidth/slack }

// Transfer is one that was begun.
type Transfer interface {
	Progress(ctx context.Context) (Progress, error)
	Limit(ctx context.Context, l Limits) error
	// PostCopy lets the destination run before it has all memory. There is no way back from it: the caller has
	// ordered Limits.StopNow, seen Switchover and journalled its commit. It returns when the destination has what it
	// needs to run and is paused; target.Finish(moved) is next, then Complete.
	PostCopy(ctx context.Context) error
	// Switchover waits until the source has stopped and flushed its disks, with the rest still to be sent.
	Switchover(ctx context.Context) error
	// Complete sends the rest and waits until the destination has all of it and is paused, or runs after PostCopy.
	Complete(ctx context.Context) error
	// Cancel ends the transfer. The source runs on by itself: whatever was handed over is handed back before.
	Cancel(ctx context.Context) error
}

// Progress of a transfer.
type Progress struct {
	Phase       string // "setup", "active", "switchover", "post-copy", "completed", "failed", "cancelled"
	Transferred uint64 // bytes sent
	Remaining   uint64 // bytes known to be still to send
	Total       uint64
	DirtyRate   float64       // bytes a second the guest writes
	Bandwidth   float64       // bytes a second sent
	Passes      int           // begun: 1 during the first
	Throttle    int           // percent
	Downtime    time.Duration // known once completed
	Problem     string        // why it failed
}

// Plug is a device to add: exactly one is set.
type Plug struct {
	VCPU      bool // the next free one
	DIMM      *model.DIMM
	VirtioMem *model.VirtioMem
	NIC       *model.NIC
	Disk      *model.Disk
}

var (
	// ErrFenced means that a newer manager has given orders to the host.
	ErrFenced = errors.New("a newer manager has taken over")
	// ErrNoSuchVM means that the host does not have the VM.
	ErrNoSuchVM = errors.New("no such VM on this host")
	// ErrNotHere means that the hypervisor has no way to do this.
	ErrNotHere = errors.New("this hypervisor cannot do it")
)
