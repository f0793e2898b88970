package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Input is what is known before a move.
type Input struct {
	// ID names the plan; the caller makes it.
	ID string
	// Shape is the VM as its host describes it.
	Shape model.Shape
	// Type is what it shall become; the zero one leaves it as it is.
	Type           model.VMType
	Source, Target model.Host
	// Guest is what the agent reports, nil when there is none.
	Guest *model.Guest
	Goal  model.Goal
	Hooks model.Hooks
	// Residents are the VMs that the target has already.
	Residents []Resident
	// Volumes are the sizes of the gateway's volumes by name; nil when it was not asked.
	Volumes map[string]uint64
}

// Resident is a VM of the target.
type Resident struct{ VM, UUID string }

// planner makes one plan. Its shape is the VM after the steps so far.
type planner struct {
	in       Input
	shape    model.Shape
	steps    []Step
	give     []string // capabilities that the guest must be given
	asked    map[string]bool
	warnings []string
	refusals []Refusal
}

// Make returns a plan, or at least one reason why there is none.
func Make(in Input) (Plan, []Refusal) {
	before := normalise(in.Shape)
	p := &planner{in: in, shape: before, asked: map[string]bool{}}
	p.checkIdentity()
	p.checkAddresses(before)

	p.hooks(HookBefore, in.Hooks.Before)
	grow := p.memory()
	p.unplugVCPUs()
	p.swapNICs()
	p.swapDisks()
	p.move()
	during := p.shape
	p.checkBoard(during)
	p.checkDevices(during)
	p.checkDisks(during)
	p.checkPolicy(during)

	p.grow(grow)
	p.plugVCPUs()
	p.hooks(HookAfter, in.Hooks.After)
	p.checkRoom(p.shape)
	p.checkAgent()
	if len(p.refusals) > 0 {
		return Plan{}, p.refusals
	}
	if len(p.give) > 0 {
		slices.Sort(p.give)
		p.steps = slices.Insert(p.steps, 0, Step{
			Kind: Augment, Side: Guest, Capabilities: p.give, Why: "the steps below need it, and the guest can be given it",
		})
	}
	return Plan{
		Version: Version, ID: in.ID, VM: in.Shape.VM, From: in.Source.Name, To: in.Target.Name,
		Before: before, During: during, After: p.shape, Steps: p.steps, Goal: in.Goal, Warnings: p.warnings,
	}, nil
}

// do adds a step and takes its effect. A step that has none, because the shape contradicts itself, is a refusal.
func (p *planner) do(s Step) {
	next, err := Apply(p.shape, s)
	if err != nil {
		p.refuse("shape-contradicts-itself", err.Error(), "the host describes a VM that cannot be", "look at it with `ratchetctl migrate show`, and report it")
		return
	}
	p.shape = next
	p.steps = append(p.steps, s)
}

// refuse notes a reason against the move. Codes are listed in docs/reference/migration-refusals.md.
func (p *planner) refuse(code, what, why, do string) {
	p.refusals = append(p.refusals, Refusal{Code: code, What: what, Why: why, Do: do})
}

func (p *planner) warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *planner) hooks(kind Kind, names []string) {
	for _, name := range names {
		p.need(model.CanHook+name, "the template runs it")
		p.do(Step{Kind: kind, Side: Guest, Hook: name, Why: "the template asks for it"})
	}
}

// unplugVCPUs and plugVCPUs go one by one: each can be undone alone, and guests let go of one at a time.
func (p *planner) unplugVCPUs() {
	want := p.in.Type.VCPUs
	if want == 0 || want >= p.shape.VCPUs {
		return
	}
	if p.shape.Accel == "tcg" && strings.Contains(strings.ToLower(p.in.Source.Hypervisor), "qemu") {
		p.refuse("vcpu-unplug-tcg", fmt.Sprintf("%d vCPUs are asked for, and the VM has %d under TCG", want, p.shape.VCPUs),
			"QEMU crashes when a device comes or goes after a vCPU was unplugged there", "leave their number as it is, and take some offline inside the guest")
		return
	}
	p.need(model.CanCPUUnplug, "vCPUs are taken away")
	for n := p.shape.VCPUs; n > want; n-- {
		p.do(Step{
			Kind: UnplugVCPU, Side: Source, Device: VCPUDevice(n - 1), VCPUs: &Change[int]{n, n - 1},
			Why: "before the move, so that the target need not have room for it",
		})
	}
}

func (p *planner) plugVCPUs() {
	want := p.in.Type.VCPUs
	if want <= p.shape.VCPUs {
		return
	}
	if want > p.shape.MaxVCPUs {
		p.refuse("vcpus-beyond-max", fmt.Sprintf("%d vCPUs are asked for, and the VM was started for at most %d", want, p.shape.MaxVCPUs),
			"the ceiling is fixed when a VM is first started", fmt.Sprintf("ask for %d or fewer, or shut the VM down and start it with a higher maximum", p.shape.MaxVCPUs))
		return
	}
	p.need(model.CanCPUHotplug, "vCPUs are added")
	for n := p.shape.VCPUs; n < want; n++ {
		p.do(Step{
			Kind: PlugVCPU, Side: Target, Device: VCPUDevice(n), VCPUs: &Change[int]{n, n + 1},
			Why: "after the move, because only the target need have room for it",
		})
	}
}

// move adds the step that changes the host, and the CPU model with it: a guest meets another CPU only there.
func (p *planner) move() {
	s := Step{Kind: Move, Side: Target, Gap: p.in.Goal.Gap(), Why: "memory and state go over, then the VM runs there"}
	want := p.in.Type.CPU
	if want != "" && want != p.shape.CPU.Model {
		if strings.Contains(p.in.Source.Hypervisor, "libvirt") {
			p.refuse("cpu-model-fixed", fmt.Sprintf("the CPU %s is to become %s", p.shape.CPU.Model, want),
				"libvirt takes a change of the CPU model in a running VM for a mistake", "change the model in the domain's definition; it counts from the next start")
		}
		to := model.CPU{Model: want}
		if c, ok := cpuOf(p.in.Target, want); ok {
			to = model.CPU{Model: want, Features: slices.Clone(c.Features)}
		}
		from := model.CPU{Model: p.shape.CPU.Model, Features: slices.Clone(p.shape.CPU.Features)}
		s.CPU = &Change[model.CPU]{from, to}
		p.warn("the guest keeps using the flags of %s until it is booted again", from.Model)
	}
	s.AtOnce = p.corrupts(p.shape) && p.in.Goal.AllowPostCopy
	p.do(s)
}

// swapGap is what a guest may miss while its addresses move from one card to another.
const swapGap = 300 * time.Millisecond

// Has tells whether a VM is what a type makes of it, so that a move alone is left to do.
func Has(shape model.Shape, t model.VMType) bool {
	p := &planner{in: Input{Shape: shape, Type: t}, shape: normalise(shape), asked: map[string]bool{}}
	grow := p.memory()
	p.unplugVCPUs()
	p.swapNICs()
	p.swapDisks()
	p.grow(grow)
	p.plugVCPUs()
	// What cannot be done was not done yet either.
	otherCPU := t.CPU != "" && t.CPU != shape.CPU.Model
	return len(p.steps) == 0 && len(p.refusals) == 0 && !otherCPU
}
