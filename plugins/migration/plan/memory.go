package plan

import (
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

const (
	// virtioBlock is what virtio-mem gives and takes at least when the device does not say.
	virtioBlock = 2 << 20
	// dimmBlock is what Linux onlines at least.
	dimmBlock = 128 << 20
	// slack is the share of a block by which a VM may miss its type. Boot memory is seldom a whole number of blocks –
	// under TCG it must not be one – and nobody who asks for 512 MiB wants 514 because of 8 KiB.
	slack = 64
)

func blockOf(v model.VirtioMem) uint64 {
	if v.Block == 0 {
		return virtioBlock
	}
	return v.Block
}

// memory takes away what is too much, and returns what is to be added after the move.
func (p *planner) memory() (missing uint64) {
	want, have := uint64(p.in.Type.Memory), p.shape.Memory.Total()
	switch {
	case want == 0:
		return 0
	case want < p.shape.Memory.Boot-min(p.shape.Memory.Boot, dimmBlock/slack):
		p.refuse("memory-below-boot", fmt.Sprintf("%s are asked for, and the VM was started with %s", size(want), size(p.shape.Memory.Boot)),
			"memory that a VM was started with cannot be taken away", "ask for at least that, or shut the VM down and start it with less")
		return 0
	case want >= have:
		return want - have
	}
	p.shrink(have - want)
	if left := p.shape.Memory.Total() - min(want, p.shape.Memory.Total()); left > 0 && left >= virtioBlock/slack {
		p.warn("memory stays %s above the type: the rest cannot be taken away piece by piece", size(left))
	}
	return 0
}

// shrink prefers virtio-mem, which gives back in small blocks and can be taken half way; a module goes whole or not.
func (p *planner) shrink(excess uint64) {
	const why = "before the move: less to send, and the target need not have room for it"
	for i := len(p.shape.Memory.VirtioMem) - 1; i >= 0; i-- {
		v := p.shape.Memory.VirtioMem[i]
		block := blockOf(v)
		take := min((excess+block/slack)/block*block, v.Requested)
		if take == 0 {
			continue
		}
		p.need(model.CanVirtioMem, "memory is taken away")
		p.do(Step{Kind: ShrinkMemory, Side: Source, Device: v.ID, Memory: &Change[uint64]{v.Requested, v.Requested - take}, Why: why})
		excess -= min(take, excess)
	}
	for _, d := range slices.Backward(slices.Clone(p.shape.Memory.DIMMs)) {
		if d.Size > excess+dimmBlock/slack {
			continue
		}
		p.need(model.CanDIMM, "a memory module is taken away")
		p.warn("module %s goes only if the guest can empty it; if it cannot, everything is undone", d.ID)
		p.do(Step{Kind: ShrinkMemory, Side: Source, Device: d.ID, DIMM: &d, Why: why})
		excess -= min(d.Size, excess)
	}
}

// grow adds memory at the target: to virtio-mem devices as far as they reach, the rest as one module.
func (p *planner) grow(missing uint64) {
	const why = "after the move, because only the target need have room for it"
	for _, v := range p.shape.Memory.VirtioMem {
		block := blockOf(v)
		if missing <= block/slack || v.Requested >= v.Max {
			continue
		}
		add := min(roundUp(missing-block/slack, block), (v.Max-v.Requested)/block*block)
		if add == 0 {
			continue
		}
		p.need(model.CanVirtioMem, "memory is added")
		p.do(Step{Kind: GrowMemory, Side: Target, Device: v.ID, Memory: &Change[uint64]{v.Requested, v.Requested + add}, Why: why})
		missing -= min(add, missing)
	}
	if missing <= virtioBlock/slack || missing <= dimmBlock/slack && len(p.shape.Memory.VirtioMem) == 0 {
		return
	}
	if d, ok := p.module(missing); ok {
		p.need(model.CanDIMM, "a memory module is added")
		p.do(Step{Kind: GrowMemory, Side: Target, Device: d.ID, DIMM: &d, Why: why})
	}
}

// module is one that brings as much as is missing. Regions of virtio-mem count in full towards the ceiling.
func (p *planner) module(missing uint64) (model.DIMM, bool) {
	m := p.shape.Memory
	d := model.DIMM{Size: roundUp(missing-min(missing-1, dimmBlock/slack), dimmBlock)}
	plugged := d.Size
	slots := make([]bool, max(m.Slots, 0))
	for _, o := range m.DIMMs {
		plugged += o.Size
		if o.Slot >= 0 && o.Slot < len(slots) {
			slots[o.Slot] = true
		}
	}
	for _, v := range m.VirtioMem {
		plugged += v.Max
	}
	if m.Boot+plugged > m.Max {
		p.refuse("memory-beyond-max", fmt.Sprintf("%s more are needed, and the VM was started for at most %s in all", size(missing), size(max(m.Max, m.Boot))),
			"the ceiling is fixed when a VM is first started", "ask for less, or shut the VM down and start it with a higher maximum")
		return d, false
	}
	if d.Slot = slices.Index(slots, false); d.Slot < 0 {
		p.refuse("memory-no-slot", fmt.Sprintf("all %d memory slots of the VM are taken", m.Slots),
			"the number of slots is fixed when a VM is first started", "ask for less, or shut the VM down and start it with more slots")
		return d, false
	}
	d.ID = fmt.Sprintf("dimm%d", d.Slot)
	return d, true
}

func roundUp(n, block uint64) uint64 { return (n + block - 1) / block * block }

// size writes bytes as people and Goals do. What is no whole number of MiB is rounded: 262136K of boot memory are 256.0MiB.
func size(n uint64) string {
	if n > 1<<20 && n%(1<<20) != 0 {
		return fmt.Sprintf("%.1fMiB", float64(n)/(1<<20))
	}
	return strict.Size(min(n, 1<<62)).String()
}
