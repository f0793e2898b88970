package guest

import (
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// driver is what a device model needs: one of any module list, all modules of it.
type driver struct {
	model   string
	modules []string
}

// drivers are the models that a plan may swap between. The bus comes first: a guest without virtio_pci has no virtio at all.
var drivers = []driver{
	{"virtio-net-pci", []string{"virtio_pci", "virtio_net"}},
	{"e1000", []string{"e1000"}},
	{"e1000e", []string{"e1000e"}},
	{"vmxnet3", []string{"vmxnet3"}},
	{"rtl8139", []string{"8139cp"}},
	{"virtio-blk-pci", []string{"virtio_pci", "virtio_blk"}},
	{"scsi-hd", []string{"virtio_pci", "virtio_scsi", "sd_mod"}},
	{"nvme", []string{"nvme"}},
	{"ide-hd", []string{"ata_piix", "sd_mod"}},
}

// capability returns one by its name, as it is now.
func (a *Agent) capability(name string, m *modules) model.Capability {
	c := model.Capability{Name: name, State: model.Ready}
	if modelName, ok := strings.CutPrefix(name, model.CanDriver); ok {
		for _, d := range drivers {
			if d.model == modelName {
				c.State, c.Detail = m.state(d.modules)
				return c
			}
		}
		c.State, c.Detail = model.Missing, "this agent does not know the model"
		return c
	}
	switch name {
	case model.CanCPUHotplug, model.CanCPUUnplug:
		if !a.sys.exists(cpuDir, "hotplug/states") {
			c.State, c.Detail = model.Missing, "the kernel was built without CONFIG_HOTPLUG_CPU"
		} else {
			c.Detail = "possible CPUs: " + a.sys.text(cpuDir, "possible")
		}
	case model.CanDIMM:
		if !a.sys.exists(memoryDir, "auto_online_blocks") {
			c.State, c.Detail = model.Missing, "the kernel was built without CONFIG_MEMORY_HOTPLUG"
		} else {
			c.Detail = "new blocks: " + a.sys.text(memoryDir, "auto_online_blocks")
		}
	case model.CanVirtioMem:
		if !a.sys.exists(memoryDir, "auto_online_blocks") {
			c.State, c.Detail = model.Missing, "the kernel was built without CONFIG_MEMORY_HOTPLUG"
		} else {
			c.State, c.Detail = m.state([]string{"virtio_pci", "virtio_mem"})
		}
	case model.CanMoveNIC, model.CanMoveDisk:
	default:
		c.State, c.Detail = model.Missing, "this agent does not know it"
	}
	return c
}

// capabilities are all that the agent knows of.
func (a *Agent) capabilities() []model.Capability {
	m := a.modules()
	names := []string{model.CanCPUHotplug, model.CanCPUUnplug, model.CanDIMM, model.CanVirtioMem, model.CanMoveNIC, model.CanMoveDisk}
	for _, d := range drivers {
		names = append(names, model.CanDriver+d.model)
	}
	out := make([]model.Capability, 0, len(names))
	for _, n := range names {
		out = append(out, a.capability(n, m))
	}
	return append(out, a.hooks()...)
}

// modulesOf are the modules that a capability needs.
func modulesOf(name string) []string {
	if name == model.CanVirtioMem {
		return []string{"virtio_pci", "virtio_mem"}
	}
	modelName, ok := strings.CutPrefix(name, model.CanDriver)
	for _, d := range drivers {
		if ok && d.model == modelName {
			return d.modules
		}
	}
	return nil
}
