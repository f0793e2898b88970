package step

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

// VM is one where it is now.
type VM struct {
	Name string
	Port hypervisor.Port
	// Guest is its agent; nil is none, which only steps outside of the guest can do without.
	Guest agent.Client
	// Order names this step of this move, the same each time it is tried: what must be done once is.
	Order string
}

// State is how far a VM is on the way from before a step to after it.
type State string

// States of a VM. Elsewhere means that it is neither before nor after nor between: somebody else changed it.
const (
	Before    State = "before"
	Between   State = "between"
	After     State = "after"
	Elsewhere State = "elsewhere"
)

var (
	// ErrNoAgent means that the step needs an agent in the guest.
	ErrNoAgent = errors.New("the step needs ratchet-guest-agent in the guest")
	// ErrElsewhere means that the VM is in no state that the step leads through.
	ErrElsewhere = errors.New("the VM was changed by somebody else")
	// ErrPartly means that the guest gave only a part of what was asked for.
	ErrPartly = errors.New("the guest gave only a part")
)

// kind is what this package knows of one kind of step.
type kind struct {
	// probe may be nil for what no shape shows.
	probe   func(model.Shape, plan.Step) State
	do      func(context.Context, VM, plan.Step, State) error
	timeout time.Duration
}

// of returns the kind of a step. A function and not a table: nothing is made before it is needed.
func of(k plan.Kind) (kind, error) {
	switch k {
	case plan.Augment:
		return kind{do: augment, timeout: 30 * time.Second}, nil
	case plan.HookBefore, plan.HookAfter:
		return kind{do: hook, timeout: time.Minute}, nil
	case plan.ShrinkMemory, plan.GrowMemory:
		return kind{probe: probeMemory, do: changeMemory, timeout: 45 * time.Second}, nil
	case plan.UnplugVCPU, plan.PlugVCPU:
		return kind{probe: probeVCPUs, do: changeVCPUs, timeout: 30 * time.Second}, nil
	case plan.SwapNIC:
		return kind{probe: probeNIC, do: swapNIC, timeout: 30 * time.Second}, nil
	case plan.SwapDisk:
		return kind{probe: probeDisk, do: swapDisk, timeout: 30 * time.Second}, nil
	}
	return kind{}, fmt.Errorf("do not know how to carry out a step of kind %q", k)
}

// Probe tells how far a VM of a shape is. A step inside the guest is not seen there: it is always Before.
func Probe(shape model.Shape, s plan.Step) (State, error) {
	k, err := of(s.Kind)
	if err != nil || k.probe == nil {
		return Before, err
	}
	return k.probe(shape, s), nil
}

// Do leads the VM to the state after a step, from wherever it is between.
func Do(ctx context.Context, vm VM, s plan.Step) error {
	k, err := of(s.Kind)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, k.timeout, fmt.Errorf("not done within %s", k.timeout))
	defer cancel()
	state := Before
	if k.probe != nil {
		shape, err := vm.Port.Describe(ctx, vm.Name)
		if err != nil {
			return fmt.Errorf("%s %s: %w", s.Kind, s.Device, err)
		}
		if state = k.probe(shape, s); state == Elsewhere {
			return fmt.Errorf("%s %s: %w; plan the move anew", s.Kind, s.Device, ErrElsewhere)
		}
	}
	if err := k.do(ctx, vm, s, state); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
		return fmt.Errorf("%s %s: %w", s.Kind, s.Device, err)
	}
	return nil
}
