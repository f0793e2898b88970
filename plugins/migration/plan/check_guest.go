package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// need makes sure that the guest has a capability, or is given it by the plan.
func (p *planner) need(name, because string) {
	if p.asked[name] {
		return
	}
	p.asked[name] = true
	if p.in.Guest == nil {
		if !p.asked["agent"] {
			p.asked["agent"] = true
			p.refuse("agent-absent", fmt.Sprintf("no agent answers in %s, and %s", p.in.Shape.VM, because),
				"the guest takes part in every change but a plain move", "install the guest agent in it (see docs/howto/migration-agent.md), or ask for the VM as it is")
		}
		return
	}
	for _, c := range p.in.Guest.Can {
		if c.Name != name {
			continue
		}
		switch c.State {
		case model.Ready:
			return
		case model.CanBeGiven:
			p.give = append(p.give, name)
			return
		}
		p.lacks(name, because, c.Detail)
		return
	}
	p.lacks(name, because, "its agent does not know it")
}

func (p *planner) lacks(name, because, detail string) {
	if detail != "" {
		detail = " (" + detail + ")"
	}
	do := "ask for the VM as it is in this, or install what is missing in the guest"
	if hook, ok := strings.CutPrefix(name, model.CanHook); ok {
		do = fmt.Sprintf("put an executable file %s into the hook directory of the guest's agent", hook)
	}
	p.refuse("capability-missing", fmt.Sprintf("the guest %s has no %s%s, and %s", p.in.Shape.VM, name, detail, because), "the change would not come through", do)
}

// checkAgent holds what the agent says against what the hypervisor says, where a step depends on both. An agent that is
// old, confused or lying is found out before the guest is asked to let go of anything.
func (p *planner) checkAgent() {
	g := p.in.Guest
	if g == nil {
		p.warn("no agent answers in %s: that it runs at the target will be known from the hypervisor only", p.in.Shape.VM)
		return
	}
	contradicts := func(format string, args ...any) {
		p.refuse("agent-contradicts", fmt.Sprintf(format, args...), "one of the two is wrong, and a step depends on it",
			"restart the agent in the guest; if it stays so, update it")
	}
	touches := func(kinds ...Kind) bool {
		return slices.ContainsFunc(p.steps, func(s Step) bool { return slices.Contains(kinds, s.Kind) })
	}
	if n := p.in.Shape.VCPUs; g.Present != 0 && g.Present != n && touches(PlugVCPU, UnplugVCPU) {
		contradicts("the guest sees %d vCPUs, and its host has plugged %d", g.Present, n)
	}
	for _, s := range p.steps {
		if s.Kind != SwapNIC {
			continue
		}
		mac := s.NIC.From.MAC
		if !slices.ContainsFunc(g.NICs, func(n model.GuestNIC) bool { return strings.EqualFold(n.MAC, mac) }) {
			contradicts("the guest sees no card with the MAC address %s, which its host calls %s", mac, s.Device)
		}
	}
}

// checkPolicy looks at how the move may be done.
func (p *planner) checkPolicy(s model.Shape) {
	in := p.in
	if (!in.Source.TLS || !in.Target.TLS) && !in.Goal.AllowPlain {
		host := in.Source.Name
		if in.Source.TLS {
			host = in.Target.Name
		}
		p.refuse("tls-missing", fmt.Sprintf("%s has no certificate for moves", host),
			"memory and disks would cross the network in the clear", "enrol the host with `ratchetctl migrate host enroll`, or allow it by allow_plain")
	}
	postCopy := in.Source.PostCopy && in.Target.PostCopy
	switch {
	case in.Goal.AllowPostCopy && postCopy:
		p.warn("post-copy is allowed: once the guest runs at the target with memory still to come, a cut link or a dead source can lose the VM")
	case in.Goal.AllowPostCopy:
		p.warn("post-copy is allowed, but not possible between these hosts: it will not be used")
	}
	if safe := in.Goal.AllowPostCopy && postCopy; !safe && p.corrupts(s) {
		p.refuse("tcg-memory", fmt.Sprintf("the VM runs under TCG with %s of memory, a multiple of 256 KiB, on %s", size(s.Memory.Boot), in.Source.Hypervisor),
			"before release 9.0 QEMU loses writes of a running guest then, and reports success",
			"start the VM with 8 KiB less, use KVM, update QEMU, or allow post-copy, which does not have the fault")
	}
	if in.Goal.Deadline > 0 && in.Goal.Bandwidth > 0 {
		all := s.Memory.Total()
		for _, d := range s.Disks {
			if d.Source.Volume == nil {
				all += d.Size
			}
		}
		whole := time.Duration(float64(all) / float64(in.Goal.Bandwidth) * float64(time.Second)).Round(time.Second)
		if whole > time.Duration(in.Goal.Deadline) {
			p.warn("%s at %s a second take %v, longer than the deadline of %v: it is met only if much of the memory is empty", size(all), in.Goal.Bandwidth, whole, in.Goal.Deadline)
		}
	}
}

// corrupts tells whether pre-copy of this VM would lose writes: TCG clears dirty bits 64 pages at a time without telling
// its TLB, in QEMU before 9.0, where memory is a whole number of such groups (docs/explanation/migration.md, Limits).
func (p *planner) corrupts(s model.Shape) bool {
	return s.Accel == "tcg" && s.Memory.Boot%(256<<10) == 0 && qemuBefore(p.in.Source.Hypervisor, 9)
}
