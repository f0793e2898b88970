package agent

import (
	"context"
	"errors"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Client is what a plan needs of an agent. Every method is idempotent: it names a state, and returns when that is reached,
// or with an error that says what it found when ctx ended or the guest refused. Such an error is a *wire.Error.
//
// An order that must be done once even if the manager is restarted in the middle gets its ID by [WithID].
type Client interface {
	// Report is what the guest has and can.
	Report(ctx context.Context) (model.Guest, error)
	// Ping returns the boot ID: the same one before and after a move, or it is not the same guest.
	Ping(ctx context.Context) (bootID string, err error)
	// Augment loads what the capabilities need and returns them as they are then. What cannot be had is Missing, without
	// an error.
	Augment(ctx context.Context, capabilities ...string) ([]model.Capability, error)
	// OnlineCPUs brings processors online, also those that are still to appear, until want are.
	OnlineCPUs(ctx context.Context, want int) (online int, err error)
	// OfflineCPUs takes the highest ones offline until want are online.
	OfflineCPUs(ctx context.Context, want int) (online int, err error)
	// OnlineMemory brings memory online, movable, also what is still to appear, until the kernel has want bytes as
	// model.Guest.Memory counts them. 0 takes what is there.
	OnlineMemory(ctx context.Context, want uint64) (bytes uint64, err error)
	// OfflineMemory takes memory of DIMMs offline, the highest first, until the kernel has at most want bytes. It is
	// best effort: memory in use may stay, and is reported by a wire.NotReached error.
	OfflineMemory(ctx context.Context, want uint64) (bytes uint64, err error)
	// SwapNIC moves addresses, routes and neighbours from one card to the other, once that has carrier. Cards are named
	// by MAC address. If From has nothing and To has addresses it was done before.
	SwapNIC(ctx context.Context, from, to string) (wire.NICSwap, error)
	// Disks lists disks. A query with a Driver returns when such a disk is there.
	Disks(ctx context.Context, q wire.DiskQuery) ([]wire.Disk, error)
	// Hook runs a program that the guest's owner has put into the folder of hooks. It is done once for an ID, also if it
	// fails: trying it again needs another ID.
	Hook(ctx context.Context, name string) error
	Close() error
}

// ErrNoAgent means that nobody answered on the guest's port.
var ErrNoAgent = errors.New("no agent answers in the guest; install ratchet-guest-agent there and start it")

type idKey struct{}

// WithID gives the one request made with ctx an ID that the caller remembers, as "PLAN/STEP/do": a manager that was
// restarted sends the order again under it and gets the first one's answer. It must be unique among different orders.
func WithID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, idKey{}, id)
}
