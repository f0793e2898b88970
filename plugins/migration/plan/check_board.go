package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// checkIdentity looks at what the VM is called and where it is to go.
func (p *planner) checkIdentity() {
	in := p.in
	if in.Source.Name == in.Target.Name {
		p.refuse("same-host", fmt.Sprintf("%s is on %s already", in.Shape.VM, in.Target.Name), "a move needs two hosts", "name another target")
	}
	if in.Shape.Version != model.ShapeVersion {
		p.refuse("shape-version", fmt.Sprintf("the record of %s has version %d, and this manager writes %d", in.Shape.VM, in.Shape.Version, model.ShapeVersion),
			"fields that are not known here would be lost on the way", "bring the manager and its hosts to the same release")
	}
	for _, r := range in.Residents {
		switch {
		case r.VM == in.Shape.VM:
			p.refuse("name-taken", fmt.Sprintf("%s has a VM %s already", in.Target.Name, r.VM),
				"it may be what an earlier move has left", "look at it with `ratchetctl migrate vms`; end or rename the one that is not meant")
		case r.UUID != "" && strings.EqualFold(r.UUID, in.Shape.UUID):
			p.refuse("uuid-taken", fmt.Sprintf("VM %s on %s has the UUID of %s", r.VM, in.Target.Name, in.Shape.VM),
				"guests and management tools take the two for one", "give one of them another UUID when it is next started")
		}
	}
	if a, b := product(in.Source.Hypervisor), product(in.Target.Hypervisor); a != b {
		p.refuse("hypervisor-other", fmt.Sprintf("%s has %s and %s has %s", in.Source.Name, in.Source.Hypervisor, in.Target.Name, in.Target.Hypervisor),
			"they do not speak one protocol for moves", "choose a target of the same kind")
	}
}

// product is a hypervisor without its version: "qemu", "qemu (libvirt)".
func product(hypervisor string) string {
	words := strings.Fields(strings.ToLower(hypervisor))
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w[0] >= '0' && w[0] <= '9' }), " ")
}

// checkBoard holds what cannot change in the life of a VM against what the target can run.
func (p *planner) checkBoard(s model.Shape) {
	t := p.in.Target
	if alias(s.Machine) {
		p.refuse("machine-alias", fmt.Sprintf("the board of %s is recorded as %q, without a version", s.VM, s.Machine),
			"the name means another board on another release of QEMU", "restart its host's agent, which records the exact board")
	} else if !slices.Contains(t.Machines, s.Machine) {
		p.refuse("machine-unknown", fmt.Sprintf("%s does not have the board %s", t.Name, s.Machine),
			"a VM keeps its board for life", "choose a target whose QEMU has it; newer releases keep the boards of older ones")
	}
	if !slices.Contains(t.Accels, s.Accel) {
		p.refuse("accel-other", fmt.Sprintf("the VM runs under %s, which %s does not have", s.Accel, t.Name),
			"the state of a VM is not the same under another accelerator", "choose a target that has it")
	}
	if s.MaxVCPUs > t.MaxVCPUs {
		p.refuse("max-vcpus", fmt.Sprintf("the VM may have %d vCPUs, and %s gives one VM at most %d", s.MaxVCPUs, t.Name, t.MaxVCPUs),
			"the destination must be started with the same ceiling", "choose a larger target")
	}
	if s.VCPUs < 1 || s.VCPUs > s.MaxVCPUs {
		p.refuse("vcpus-contradict", fmt.Sprintf("the VM is recorded with %d of at most %d vCPUs", s.VCPUs, s.MaxVCPUs),
			"no board is like that", "look at it with `ratchetctl migrate show`, and report it")
	}
	p.checkMemory(s.Memory)
	p.checkCPU(s)
	p.checkRequired(s)
}

// alias tells a board name that stands for the newest version of it.
func alias(machine string) bool {
	switch machine {
	case "isapc", "microvm", "none": // boards without versions
		return false
	}
	at := strings.LastIndexByte(machine, '-')
	return at < 0 || at+1 == len(machine) || machine[at+1] < '0' || machine[at+1] > '9'
}

// checkMemory finds a layout that the destination could not be started with.
func (p *planner) checkMemory(m model.Memory) {
	plugged := uint64(0)
	for _, d := range m.DIMMs {
		plugged += d.Size
	}
	for _, v := range m.VirtioMem {
		plugged += v.Max
	}
	if m.Boot == 0 || plugged > 0 && m.Boot+plugged > m.Max || len(m.DIMMs) > m.Slots {
		p.refuse("memory-contradicts", fmt.Sprintf("the VM is recorded with %s and %s plugged in %d slots, of at most %s", size(m.Boot), size(plugged), m.Slots, size(m.Max)),
			"the destination could not be started like that", "look at it with `ratchetctl migrate show`, and report it")
	}
	for _, d := range m.DIMMs {
		if d.Addr == 0 {
			p.refuse("memory-without-address", fmt.Sprintf("the host does not say where memory module %s is", d.ID),
				"the destination might put it elsewhere, and the guest would be lost", "update the agent of the host")
		}
	}
}

// checkCPU is the check that QEMU does not make: a guest that meets a CPU with fewer flags hangs without a word.
func (p *planner) checkCPU(s model.Shape) {
	has := p.in.Shape.CPU
	if len(has.Features) == 0 {
		has, _ = cpuOf(p.in.Source, has.Model)
	}
	offer, known := cpuOf(p.in.Target, s.CPU.Model)
	const silent = "a guest that finds a flag gone hangs, and QEMU reports success"
	switch {
	case !known:
		p.refuse("cpu-unknown", fmt.Sprintf("%s does not offer the CPU %s", p.in.Target.Name, s.CPU.Model),
			"the destination could not be started", "choose another target, or a type with a CPU that it has: "+strings.Join(names(p.in.Target.CPUs), ", "))
	case len(has.Features) == 0 || len(offer.Features) == 0:
		p.refuse("cpu-flags-unknown", fmt.Sprintf("the flags of the CPU %s are not known on both hosts", s.CPU.Model), silent, "update the agents of the hosts")
	default:
		if gone := missing(has.Features, offer.Features); len(gone) > 0 {
			p.refuse("cpu-narrower", fmt.Sprintf("the CPU %s of %s lacks %s", s.CPU.Model, p.in.Target.Name, strings.Join(gone, ", ")), silent,
				"choose a target that has them, or start the VM with a CPU model that both hosts have")
		}
	}
}

func cpuOf(h model.Host, name string) (model.CPU, bool) {
	i := slices.IndexFunc(h.CPUs, func(c model.CPU) bool { return c.Model == name })
	if i < 0 {
		return model.CPU{}, false
	}
	return h.CPUs[i], true
}

func names(cpus []model.CPU) []string {
	var list []string
	for _, c := range cpus[:min(len(cpus), 8)] {
		list = append(list, c.Model)
	}
	return list
}

// missing are the flags of want that have does not hold.
func missing(want, have []string) []string {
	set := make(map[string]bool, len(have))
	for _, f := range have {
		set[f] = true
	}
	var gone []string
	for _, f := range want {
		if !set[f] {
			gone = append(gone, f)
		}
	}
	return gone
}

// checkRequired looks at what the type asks for and no move can change.
func (p *planner) checkRequired(s model.Shape) {
	r := p.in.Type.Require
	const fixed = "a move does not change it"
	if r.Machine != "" && r.Machine != s.Machine {
		p.refuse("type-machine", fmt.Sprintf("the type asks for the board %s, and the VM has %s", r.Machine, s.Machine), fixed, "choose another type, or start the VM anew")
	}
	if r.Accel != "" && r.Accel != s.Accel {
		p.refuse("type-accel", fmt.Sprintf("the type asks for %s, and the VM runs under %s", r.Accel, s.Accel), fixed, "choose another type, or start the VM anew")
	}
	if offer, ok := cpuOf(p.in.Target, s.CPU.Model); ok {
		if gone := missing(r.Features, offer.Features); len(gone) > 0 {
			p.refuse("type-features", fmt.Sprintf("the type asks for %s, which %s of %s does not have", strings.Join(gone, ", "), s.CPU.Model, p.in.Target.Name),
				"the guest would not get it", "choose a target or a CPU model that has it")
		}
	}
}

// checkRoom holds the VM as it will be against what is free on the target.
func (p *planner) checkRoom(s model.Shape) {
	t := p.in.Target
	if s.VCPUs > t.FreeVCPUs {
		p.refuse("target-full-vcpus", fmt.Sprintf("%d vCPUs are needed, and %s has %d free", s.VCPUs, t.Name, t.FreeVCPUs),
			"VMs there would be slowed down", "choose another target, or move something away from it first")
	}
	if total := s.Memory.Total(); total > t.FreeMemory {
		p.refuse("target-full-memory", fmt.Sprintf("%s of memory are needed, and %s has %s free", size(total), t.Name, size(t.FreeMemory)),
			"the VM or a neighbour would be killed for want of memory", "choose another target, or move something away from it first")
	}
}

// qemuBefore tells whether a host's QEMU is older than a release; one that does not say is.
func qemuBefore(hypervisor string, major int) bool {
	_, rest, found := strings.Cut(strings.ToLower(hypervisor), "qemu ")
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(number)
	return !found || err != nil || n < major
}
