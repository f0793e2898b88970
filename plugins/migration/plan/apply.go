package plan

import (
	"fmt"
	"reflect"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Apply is the shape that a VM has after a step. It fails when the shape is not the one that the step starts from, so a
// caller who finds the VM in neither of the two learns it here. The shape passed in is left as it was.
func Apply(shape model.Shape, step Step) (model.Shape, error) {
	out := clone(shape)
	var err error
	switch step.Kind {
	case Augment, HookBefore, HookAfter: // inside the guest: no hypervisor sees it
	case UnplugVCPU, PlugVCPU:
		err = changeVCPUs(&out, step)
	case ShrinkMemory, GrowMemory:
		err = changeMemory(&out.Memory, step)
	case SwapNIC:
		err = replace(out.NICs, step.NIC, func(n model.NIC) string { return n.ID })
	case SwapDisk:
		err = replace(out.Disks, step.Disk, func(d model.Disk) string { return d.ID })
	case Move:
		err = changeCPU(&out, step.CPU)
	default:
		err = fmt.Errorf("unknown kind of step")
	}
	if err != nil {
		return model.Shape{}, fmt.Errorf("apply %s %s to %s: %w", step.Kind, step.Device, shape.VM, err)
	}
	return out, nil
}

// Invert is the step that takes a step back. Steps that happen inside the guest are their own inverse: what a guest has
// been enabled to do does it no harm to keep.
func Invert(step Step) Step {
	out := step
	out.Kind = inverse(step.Kind)
	out.VCPUs, out.Memory, out.CPU = turn(step.VCPUs), turn(step.Memory), turn(step.CPU)
	out.NIC, out.Disk = turn(step.NIC), turn(step.Disk)
	switch {
	case out.NIC != nil:
		out.Device = out.NIC.From.ID
	case out.Disk != nil:
		out.Device = out.Disk.From.ID
	}
	return out
}

func inverse(k Kind) Kind {
	switch k {
	case ShrinkMemory:
		return GrowMemory
	case GrowMemory:
		return ShrinkMemory
	case UnplugVCPU:
		return PlugVCPU
	case PlugVCPU:
		return UnplugVCPU
	}
	return k
}

func turn[T any](c *Change[T]) *Change[T] {
	if c == nil {
		return nil
	}
	return &Change[T]{From: c.To, To: c.From}
}

func changeVCPUs(s *model.Shape, step Step) error {
	c := step.VCPUs
	switch {
	case c == nil:
		return fmt.Errorf("the step does not say how many vCPUs")
	case s.VCPUs != c.From:
		return fmt.Errorf("it has %d vCPUs and should have %d", s.VCPUs, c.From)
	case c.To < 1 || c.To > s.MaxVCPUs:
		return fmt.Errorf("%d vCPUs are not between 1 and %d", c.To, s.MaxVCPUs)
	}
	s.VCPUs = c.To
	return nil
}

func changeMemory(m *model.Memory, step Step) error {
	if step.DIMM != nil {
		return changeDIMM(m, step.Kind == GrowMemory, *step.DIMM)
	}
	c := step.Memory
	if c == nil {
		return fmt.Errorf("the step does not say how much memory")
	}
	i := slices.IndexFunc(m.VirtioMem, func(v model.VirtioMem) bool { return v.ID == step.Device })
	switch {
	case i < 0:
		return fmt.Errorf("it has no such virtio-mem device")
	case m.VirtioMem[i].Requested != c.From:
		return fmt.Errorf("the device offers %d bytes and should offer %d", m.VirtioMem[i].Requested, c.From)
	case c.To > m.VirtioMem[i].Max:
		return fmt.Errorf("the device cannot offer %d bytes, only %d", c.To, m.VirtioMem[i].Max)
	}
	m.VirtioMem[i].Requested = c.To
	return nil
}

// changeDIMM keeps modules in the order of their slots, so that one that was taken away and put back leaves the same shape.
func changeDIMM(m *model.Memory, plug bool, d model.DIMM) error {
	same := func(o model.DIMM) bool { return o.ID == d.ID || o.Slot == d.Slot }
	i := slices.IndexFunc(m.DIMMs, same)
	switch {
	case !plug && (i < 0 || m.DIMMs[i] != d):
		return fmt.Errorf("it does not have this module")
	case !plug:
		m.DIMMs = slices.Delete(m.DIMMs, i, i+1)
		if len(m.DIMMs) == 0 {
			m.DIMMs = nil
		}
		return nil
	case i >= 0:
		return fmt.Errorf("the module or its slot %d is taken", d.Slot)
	case d.Slot < 0 || d.Slot >= m.Slots:
		return fmt.Errorf("slot %d is not one of its %d", d.Slot, m.Slots)
	}
	at, _ := slices.BinarySearchFunc(m.DIMMs, d, func(a, b model.DIMM) int { return a.Slot - b.Slot })
	m.DIMMs = slices.Insert(m.DIMMs, at, d)
	return nil
}

// replace puts a device in the place of another one in the list, which keeps its order.
func replace[T any](list []T, c *Change[T], id func(T) string) error {
	if c == nil {
		return fmt.Errorf("the step does not say which device")
	}
	at := -1
	for i, d := range list {
		switch {
		case id(d) == id(c.From):
			at = i
		case id(d) == id(c.To):
			return fmt.Errorf("it already has a device %s", id(c.To))
		}
	}
	if at < 0 || !reflect.DeepEqual(list[at], c.From) {
		return fmt.Errorf("it does not have this device")
	}
	list[at] = c.To
	return nil
}

func changeCPU(s *model.Shape, c *Change[model.CPU]) error {
	if c == nil {
		return nil
	}
	if s.CPU.Model != c.From.Model || !slices.Equal(s.CPU.Features, c.From.Features) {
		return fmt.Errorf("its CPU is %s and should be %s", s.CPU.Model, c.From.Model)
	}
	s.CPU = model.CPU{Model: c.To.Model, Features: slices.Clone(c.To.Features)}
	return nil
}
