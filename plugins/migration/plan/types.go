package plan

import (
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Version is the format of the Plans written here. Journals keep plans whole, so a reader must know it (invariant X1).
const Version = 1

// Plan is how one VM gets from one host to another and from one shape to another. It is data: it can be kept, shown and
// sent, and whoever carries it out finds in it all he needs to undo it.
type Plan struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	VM      string `json:"vm"`
	From    string `json:"from"`
	To      string `json:"to"`
	// Before is the VM as it is, During what crosses, which is what the destination is started as, After what it shall be.
	Before model.Shape `json:"before"`
	During model.Shape `json:"during"`
	After  model.Shape `json:"after"`
	Steps  []Step      `json:"steps"`
	Goal   model.Goal  `json:"goal"`
	// Warnings are what the operator should know before it begins.
	Warnings []string `json:"warnings,omitempty"`
}

// Kind is what a step does.
type Kind string

// Kinds of steps, in the order in which a plan has them. What makes the VM smaller comes before the move, because less is
// sent then and a small host can take it; what makes it larger comes after, because only the target need have room for it.
// Devices change their model at the source, where the VM can still stay if that fails.
const (
	Augment      Kind = "augment"       // give the guest capabilities: Capabilities
	HookBefore   Kind = "hook-before"   // run the guest's script: Hook
	ShrinkMemory Kind = "shrink-memory" // Memory or DIMM
	UnplugVCPU   Kind = "unplug-vcpu"   // VCPUs, by one
	SwapNIC      Kind = "swap-nic"      // NIC
	SwapDisk     Kind = "swap-disk"     // Disk
	Move         Kind = "move"          // CPU when its model changes
	GrowMemory   Kind = "grow-memory"   // Memory or DIMM
	PlugVCPU     Kind = "plug-vcpu"     // VCPUs, by one
	HookAfter    Kind = "hook-after"    // run the guest's script: Hook
)

// Side is where a step has its effect.
type Side string

// The source and target of the move, and the inside of the guest, wherever it is.
const (
	Source Side = "source"
	Target Side = "target"
	Guest  Side = "guest"
)

// Change is from what to what.
type Change[T any] struct {
	From T `json:"from"`
	To   T `json:"to"`
}

// Step is one reversible change. Of the fields in the middle exactly those are set that its Kind names.
type Step struct {
	Kind Kind `json:"kind"`
	Side Side `json:"side"`
	// Device is the ID of the device it is about: of a swap the one that goes, of a plug the one that comes.
	Device string `json:"device,omitempty"`

	VCPUs        *Change[int]        `json:"vcpus,omitempty"`
	Memory       *Change[uint64]     `json:"memory,omitempty"` // bytes that the virtio-mem device offers
	DIMM         *model.DIMM         `json:"dimm,omitempty"`   // plugged by GrowMemory, unplugged by ShrinkMemory
	NIC          *Change[model.NIC]  `json:"nic,omitempty"`
	Disk         *Change[model.Disk] `json:"disk,omitempty"`
	CPU          *Change[model.CPU]  `json:"cpu,omitempty"`
	Capabilities []string            `json:"capabilities,omitempty"`
	Hook         string              `json:"hook,omitempty"`
	// AtOnce, of a Move, lets the guest run at the target before a first pass over its memory has ended.
	AtOnce bool `json:"at_once,omitempty"`

	// Gap is for how long the guest may stand still or be out of reach: what the plan allows for, not a measurement.
	Gap time.Duration `json:"gap,omitempty"`
	Why string        `json:"why,omitempty"`
}

// Refusal is one reason why a move cannot be. Code is stable, for programs; the rest is for people.
type Refusal struct {
	Code string `json:"code"`
	What string `json:"what"` // what is wrong
	Why  string `json:"why"`  // what would happen
	Do   string `json:"do"`   // what the operator can do
}

func (r Refusal) String() string { return r.What + "; " + r.Why + ": " + r.Do }

// Moving is the index of the Move step, the only one that changes the host.
func (p Plan) Moving() int {
	for i, s := range p.Steps {
		if s.Kind == Move {
			return i
		}
	}
	return -1
}
