// Package hypervisor is the port through which the migration plugin sees hosts and their VMs.
//
// An adapter (package qmp; libvirt later) implements Host for one kind of hypervisor. The
// port names what every hypervisor has; what only one of them says stays in Detail fields.
package hypervisor

import (
	"context"
	"time"
)

// Host is an open connection to one hypervisor host. Methods may be called from many
// goroutines; after an error of the connection all of them fail.
type Host interface {
	// List returns the VMs as they are now, sorted by name.
	List(ctx context.Context) ([]VM, error)
	// Events is closed when the connection ends. Events that arrive faster than they are
	// received end the connection too, rather than being lost in silence.
	Events() <-chan Event
	// Err is why Events was closed.
	Err() error
	Close() error
}

// Dial opens a connection. It returns within the bounds of ctx.
type Dial func(ctx context.Context) (Host, error)

// State of a VM, as far as it matters to a plan.
type State string

// States in which a hypervisor reports a VM; Unknown for what no port could make sense of.
const (
	Running  State = "running"
	Paused   State = "paused"   // by a person or a tool; continues on request
	Starting State = "starting" // not yet run
	Incoming State = "incoming" // destination of a migration
	Moving   State = "moving"   // source of a migration, at or past the switch
	Moved    State = "moved"    // runs elsewhere now; must not be continued
	Stopped  State = "stopped"  // shut down, its process still there
	Failed   State = "failed"   // I/O error, internal error or guest panic
	Unknown  State = "unknown"
)

// VM is one virtual machine.
type VM struct {
	Name       string
	UUID       string // "" when it has none
	State      State
	Detail     string // the hypervisor's own word for the state
	Hypervisor string // product and version
	VCPUs      int
	MaxVCPUs   int    // including those that can be plugged
	Memory     uint64 // bytes the guest has now
	Devices    []Device
}

// Device is a device that was given to a VM, as opposed to what its board always has.
type Device struct {
	ID    string // "" when it was given none, then it cannot be unplugged by name
	Model string // the hypervisor's name for it, as "virtio-net-pci"
	Kind  DeviceKind
	// Backing is what stands behind it: the image of a disk.
	Backing string
}

// DeviceKind sorts devices by what a plan does with them.
type DeviceKind string

// Other is what a plan leaves where it is.
const (
	NIC   DeviceKind = "nic"
	Disk  DeviceKind = "disk"
	CPU   DeviceKind = "cpu"
	DIMM  DeviceKind = "memory"
	Other DeviceKind = "other"
)

// Event is something that happened to a VM.
type Event struct {
	Time   time.Time
	VM     string
	Name   string // the hypervisor's own: "STOP", "RESUME", "DEVICE_DELETED"
	Detail string // its data as JSON, "" for none
}
