package libvirt

import (
	"context"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Capabilities implements hypervisor.Port. Devices are those that a VM's record has words for: whether the emulator has them
// is found out by libvirt when it starts a destination.
func (p *Port) Capabilities(ctx context.Context) (model.Host, error) {
	h, err := p.capabilities(ctx)
	if err != nil {
		return model.Host{}, fmt.Errorf("capabilities of %s: %w", p.conf.Name, err)
	}
	return h, nil
}

func (p *Port) capabilities(ctx context.Context) (model.Host, error) {
	h := model.Host{Name: p.conf.Name, TLS: !p.conf.Plain, PostCopy: true, ThrottlesItself: true}
	var err error
	if h.Hypervisor, err = p.version(ctx); err != nil {
		return h, err
	}
	text, err := p.conn.Capabilities(ctx)
	if err != nil {
		return h, err
	}
	doc, err := domxml.Parse(text)
	if err != nil {
		return h, err
	}
	offer := domxml.GuestsOf(doc)
	h.Accels, h.Machines = offer.Accels, offer.Machines
	if len(h.Accels) == 0 {
		return h, fmt.Errorf("no emulator for x86_64; install qemu-system-x86")
	}
	if h.CPUs, err = p.cpus(ctx, offer.Kind); err != nil {
		return h, err
	}
	h.Devices = domxml.Drivers()
	slices.Sort(h.Devices)
	h.Devices = slices.Compact(h.Devices)
	for segment := range p.conf.Networks {
		h.Networks = append(h.Networks, segment)
	}
	libvirts, err := p.conn.Networks(ctx)
	if err != nil {
		return h, err
	}
	h.Networks = append(append(h.Networks, libvirts...), "user")
	slices.Sort(h.Networks)
	h.Networks = slices.Compact(h.Networks)
	return h, p.room(ctx, offer.Kind, &h)
}

// room fills in what another VM may take. Memory is what is free now; vCPUs are those of the machine that no VM has.
func (p *Port) room(ctx context.Context, kind string, h *model.Host) error {
	node, err := p.conn.Node(ctx)
	if err != nil {
		return err
	}
	if h.FreeMemory, err = p.conn.FreeMemory(ctx); err != nil {
		return err
	}
	if h.MaxVCPUs, err = p.conn.MaxVCPUs(ctx, kind); err != nil {
		return err
	}
	vms, err := p.List(ctx)
	if err != nil {
		return err
	}
	h.FreeVCPUs = node.CPUs
	for _, vm := range vms {
		if vm.Detail != "" { // it has a QEMU
			h.FreeVCPUs -= vm.VCPUs
		}
	}
	h.FreeVCPUs = max(h.FreeVCPUs, 0)
	return nil
}

// cpus are the models that the host runs, each with the flags that a VM of this model can be given here: those of the model,
// and any other that the host has, since libvirt adds to a model what the VM's XML names. "host" and "max" are the names that
// QEMU has for the host's own.
func (p *Port) cpus(ctx context.Context, kind string) ([]model.CPU, error) {
	doc, err := p.domainCapabilities(ctx, kind)
	if err != nil {
		return nil, err
	}
	most, err := p.modelFlags(ctx, "host")
	if err != nil {
		return nil, err
	}
	list := []model.CPU{{Model: "host", Features: most}, {Model: "max", Features: most}}
	for _, name := range domxml.UsableCPUs(doc) {
		flags, err := p.modelFlags(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, model.CPU{Model: name, Features: union(flags, most)})
	}
	return list, nil
}

// union of two sets of flags, sorted.
func union(a, b []string) []string {
	set := slices.Concat(a, b)
	slices.Sort(set)
	return slices.Compact(set)
}

func (p *Port) domainCapabilities(ctx context.Context, kind string) (*domxml.Node, error) {
	text, err := p.conn.DomainCapabilities(ctx, "x86_64", "", kind)
	if err != nil {
		return nil, err
	}
	return domxml.Parse(text)
}

// hostFlags are the flags of the widest CPU that a guest can be given.
func (p *Port) hostFlags(ctx context.Context) ([]string, error) {
	text, err := p.conn.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	caps, err := domxml.Parse(text)
	if err != nil {
		return nil, err
	}
	doc, err := p.domainCapabilities(ctx, domxml.GuestsOf(caps).Kind)
	if err != nil {
		return nil, err
	}
	name, named := domxml.HostModel(doc)
	base, err := p.modelFlags(ctx, name)
	return domxml.Flags(base, named), err
}
