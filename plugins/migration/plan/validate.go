package plan

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// maxSteps bounds what is read back: the largest plan takes a few steps a device and one a vCPU.
const maxSteps = 10_000

// Validate tells whether a plan that was read back hangs together: a version known here, one move, and steps that lead
// from Before over During to After and can be taken back. A plan of Make always does.
func (p Plan) Validate() error {
	switch {
	case p.Version != Version:
		return fmt.Errorf("validate plan %s: it has version %d, and this release reads %d; finish it with the release that made it", p.ID, p.Version, Version)
	case len(p.Steps) > maxSteps:
		return fmt.Errorf("validate plan %s: it has %d steps, more than any VM needs", p.ID, len(p.Steps))
	}
	shape, moved := p.Before, false
	for i, s := range p.Steps {
		next, err := Apply(shape, s)
		if err != nil {
			return fmt.Errorf("validate plan %s: step %d: %w", p.ID, i+1, err)
		}
		if back, err := Apply(next, Invert(s)); err != nil || back.Digest() != shape.Digest() {
			return fmt.Errorf("validate plan %s: step %d cannot be taken back", p.ID, i+1)
		}
		shape = next
		if s.Kind != Move {
			continue
		}
		if moved {
			return fmt.Errorf("validate plan %s: it moves twice", p.ID)
		}
		moved = true
		if shape.Digest() != p.During.Digest() {
			return fmt.Errorf("validate plan %s: its steps do not lead to what it says crosses", p.ID)
		}
	}
	switch {
	case !moved:
		return fmt.Errorf("validate plan %s: it does not move", p.ID)
	case shape.Digest() != p.After.Digest():
		return fmt.Errorf("validate plan %s: its steps do not lead to what it says comes of them", p.ID)
	}
	return nil
}

// Reached tells whether a VM that its host describes is in the shape that a plan wants. Where the plan leaves an address
// of a memory module to the hypervisor, any will do.
func Reached(now, want model.Shape) bool {
	now, want = normalise(now), normalise(want)
	for i, d := range want.Memory.DIMMs {
		if d.Addr == 0 && i < len(now.Memory.DIMMs) {
			now.Memory.DIMMs[i].Addr = 0
		}
	}
	return len(Compare(want, now)) == 0
}
