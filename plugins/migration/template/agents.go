package template

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Draft is a template made from what guests report, with what an operator should know to finish it.
type Draft struct {
	Template model.Template `json:"template"`
	// Notes are about the set as a whole.
	Notes []string `json:"notes,omitempty"`
	// Changes are those that the type could ask for.
	Changes []Suggestion `json:"changes,omitempty"`
}

// Suggestion is a key of the type with a value that every VM of a draft could take, as it is written in YAML.
type Suggestion struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	Why   string `json:"why"`
}

// FromAgents makes a template of the VMs whose agents answer. It changes nothing as it stands: what could be changed in
// all of them is suggested, with what some guests must be given first. Without any agent there is nothing to go by.
func FromAgents(name string, vms []VM) (Draft, error) {
	d := Draft{Template: model.Template{Version: model.TemplateVersion, Name: name}}
	var with []VM
	var silent []string
	for _, vm := range vms {
		if vm.Guest == nil {
			silent = append(silent, vm.Name)
			continue
		}
		with = append(with, vm)
	}
	if len(with) == 0 {
		return Draft{}, fmt.Errorf("make template %s: no agent answers in any of the %d VMs; install it (docs/howto/migration-agent.md) or write the template by hand", name, len(vms))
	}
	slices.SortFunc(with, func(a, b VM) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(silent)
	for _, vm := range with {
		d.Template.Select.VMs = append(d.Template.Select.VMs, vm.Name)
	}
	d.Template.Description = "made from what the agents of " + count(len(with)) + " report"
	if len(silent) > 0 {
		d.note("no agent answers in %s: left out, a plain move is all they can do", strings.Join(silent, ", "))
	}
	d.vcpus(with)
	d.memory(with)
	d.models(with, "nic", model.CanMoveNIC, func(s model.Shape) (used []string) {
		for _, n := range s.NICs {
			used = append(used, n.Model)
		}
		return used
	})
	d.models(with, "disk", model.CanMoveDisk, func(s model.Shape) (used []string) {
		for _, x := range s.Disks {
			used = append(used, x.Model)
		}
		return used
	})
	return d, nil
}

func (d *Draft) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// vcpus suggests the largest number that every VM can have.
func (d *Draft) vcpus(vms []VM) {
	most := vms[0].Shape.MaxVCPUs
	for _, vm := range vms {
		most = min(most, vm.Shape.MaxVCPUs)
	}
	give, no := common(vms, model.CanCPUHotplug)
	if len(no) > 0 {
		d.note("%s cannot gain vCPUs", strings.Join(no, ", "))
	}
	if _, no := common(vms, model.CanCPUUnplug); len(no) > 0 {
		d.note("%s cannot lose vCPUs", strings.Join(no, ", "))
	}
	if len(no) == 0 && most > 1 {
		d.Changes = append(d.Changes, Suggestion{"vcpus", fmt.Sprint(most), "the most that every one of them was started for" + given(give)})
	}
}

// memory suggests as much as all of them can grow to.
func (d *Draft) memory(vms []VM) {
	most := reach(vms[0])
	var no, give []string
	for _, vm := range vms {
		most = min(most, reach(vm))
		if reach(vm) <= vm.Shape.Memory.Boot {
			no = append(no, vm.Name)
		}
		m := vm.Shape.Memory
		if len(m.VirtioMem) > 0 && state(vm.Guest, model.CanVirtioMem) == model.CanBeGiven || m.Slots > 0 && state(vm.Guest, model.CanDIMM) == model.CanBeGiven {
			give = append(give, vm.Name)
		}
	}
	if len(no) > 0 {
		d.note("%s cannot change their memory", strings.Join(no, ", "))
		return
	}
	d.Changes = append(d.Changes, Suggestion{"memory", fmt.Sprintf("%dMiB", most>>20), "the most that every one of them can grow to" + given(give)})
}

// reach is the most memory that a VM can have: what it was started with, its virtio-mem devices at their largest, and
// modules of 128 MiB in what is left below its ceiling.
func reach(vm VM) uint64 {
	m := vm.Shape.Memory
	total, region := m.Boot, uint64(0)
	for _, x := range m.DIMMs {
		total += x.Size
	}
	for _, x := range m.VirtioMem {
		region += x.Max
	}
	room := m.Max - min(m.Max, total+region)
	if able(vm.Guest, model.CanVirtioMem) {
		total += region
	}
	const module = 128 << 20
	if len(m.DIMMs) < m.Slots && able(vm.Guest, model.CanDIMM) {
		total += room / module * module
	}
	return total
}

// models suggests the models that every guest with such a device has a driver for, or can be given one, and that not all
// of them use already.
func (d *Draft) models(vms []VM, key, swap string, used func(model.Shape) []string) {
	vms = slices.DeleteFunc(slices.Clone(vms), func(vm VM) bool { return len(used(vm.Shape)) == 0 })
	if len(vms) == 0 {
		return
	}
	if _, no := common(vms, swap); len(no) > 0 {
		d.note("%s cannot change the model of a %s", strings.Join(no, ", "), key)
		return
	}
	var possible []Suggestion
	for _, c := range vms[0].Guest.Can {
		kind, ok := strings.CutPrefix(c.Name, model.CanDriver)
		if !ok || key == "nic" && diskModel(kind) || key == "disk" && kind != "virtio-blk-pci" {
			continue // scsi-hd needs a controller, which not every VM has
		}
		give, no := common(vms, c.Name)
		other := slices.ContainsFunc(vms, func(vm VM) bool {
			return slices.ContainsFunc(used(vm.Shape), func(m string) bool { return m != kind })
		})
		if len(no) == 0 && other {
			possible = append(possible, Suggestion{key, quote(kind), "every guest has a driver for it" + given(give)})
		}
	}
	if len(possible) == 0 {
		return
	}
	first := possible[0] // a key can stand there once
	for _, other := range possible[1:] {
		first.Why += "; or " + other.Value
	}
	d.Changes = append(d.Changes, first)
}

func count(vms int) string {
	if vms == 1 {
		return "1 VM"
	}
	return fmt.Sprintf("%d VMs", vms)
}

func diskModel(name string) bool {
	return name == "nvme" || strings.HasPrefix(name, "virtio-blk") || strings.HasPrefix(name, "scsi-") || strings.HasPrefix(name, "ide-")
}

// common lists the VMs that must be given a capability first, and those that cannot have it.
func common(vms []VM, name string) (give, no []string) {
	for _, vm := range vms {
		switch state(vm.Guest, name) {
		case model.Ready:
		case model.CanBeGiven:
			give = append(give, vm.Name)
		default:
			no = append(no, vm.Name)
		}
	}
	return give, no
}

func state(g *model.Guest, name string) model.CapabilityState {
	for _, c := range g.Can {
		if c.Name == name {
			return c.State
		}
	}
	return model.Missing
}

func given(vms []string) string {
	if len(vms) == 0 {
		return ""
	}
	return "; " + strings.Join(vms, ", ") + " will be given what it takes"
}
