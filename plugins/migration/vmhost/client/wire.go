package client

import (
	"encoding/json"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// EpochHeader carries the manager's epoch, decimal.
const EpochHeader = "Ratchet-Epoch"

// ChannelProtocol is what a connection to a channel is upgraded to.
const ChannelProtocol = "ratchet-channel"

// MaxBody bounds one request and one reply in bytes.
const MaxBody = 4 << 20

// Host is what a host tells of itself.
type Host struct {
	model.Host
	// Address is where QEMUs of this host listen for memory and disks, on a port from FirstPort to LastPort.
	Address   string `json:"address"`
	FirstPort int    `json:"first_port"`
	LastPort  int    `json:"last_port"`
	// Credentials is a directory on the host, as tls-creds-x509 wants it.
	Credentials string `json:"credentials,omitempty"`
	Epoch       uint64 `json:"epoch"`
}

// VM is one on a host.
type VM struct {
	hypervisor.VM
	// Move is the ID of the move that it is the destination of, empty for a VM that lives there.
	Move string `json:"move,omitempty"`
}

// Start is a request to start a VM.
type Start struct {
	Shape model.Shape `json:"shape"`
	// Move makes it the destination of a move: stopped, waiting to be told where to listen.
	Move string `json:"move,omitempty"`
	// Paused waits for cont before the first instruction.
	Paused bool `json:"paused,omitempty"`
}

// Settle is a request to keep a destination: what discards destinations no longer touches it.
type Settle struct {
	Move string `json:"move"`
}

// End is a request to end a VM.
type End struct {
	// Move ends the destination of that move and nothing else; empty ends a VM that lives there and nothing else.
	Move string `json:"move,omitempty"`
}

// Unplug is a request to take a device away.
type Unplug struct {
	ID string `json:"id"`
}

// Command is a QMP command.
type Command struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

// Reply is QMP's: one of the two.
type Reply struct {
	Return json.RawMessage `json:"return,omitempty"`
	Error  *CommandError   `json:"error,omitempty"`
}

// CommandError is QEMU's refusal.
type CommandError struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// Event is QEMU's, or GONE when the VM's process has ended.
type Event struct {
	Time time.Time       `json:"time"`
	VM   string          `json:"vm"`
	Name string          `json:"name"`
	Data json.RawMessage `json:"data,omitempty"`
}

// Gone is the event of a VM whose process has ended.
const Gone = "GONE"

// Kind says what a host refuses a request for, in a form that programs understand.
type Kind string

// Kinds of refusals.
const (
	Fenced   Kind = "fenced"
	NoSuchVM Kind = "no such vm"
	Exists   Kind = "exists"
	Refused  Kind = "refused"
)

// Problem is the body of every reply that is not a success.
type Problem struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
}
