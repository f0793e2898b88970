package step

import (
	"context"
	"fmt"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/plan"
)

func augment(ctx context.Context, vm VM, s plan.Step, _ State) error {
	if vm.Guest == nil {
		return ErrNoAgent
	}
	got, err := vm.Guest.Augment(ctx, s.Capabilities...)
	if err != nil {
		return err
	}
	state := map[string]model.Capability{}
	for _, c := range got {
		state[c.Name] = c
	}
	var missing []string
	for _, name := range s.Capabilities {
		if c := state[name]; c.State != model.Ready {
			missing = append(missing, strings.TrimSpace(name+" "+c.Detail))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("the guest cannot be given %s", strings.Join(missing, ", "))
	}
	return nil
}

// hook runs a script once: a manager that was restarted asks under the same ID, and gets the first one's answer.
func hook(ctx context.Context, vm VM, s plan.Step, _ State) error {
	if vm.Guest == nil {
		return ErrNoAgent
	}
	if vm.Order != "" {
		ctx = agent.WithID(ctx, vm.Order)
	}
	return vm.Guest.Hook(ctx, s.Hook)
}
