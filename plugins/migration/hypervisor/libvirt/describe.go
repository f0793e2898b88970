package libvirt

import (
	"context"
	"fmt"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Describe implements hypervisor.Port.
func (p *Port) Describe(ctx context.Context, vm string) (model.Shape, error) {
	dom, err := p.active(ctx, vm)
	if err != nil {
		return model.Shape{}, err
	}
	s, _, err := p.describe(ctx, dom)
	return s, err
}

// describe is a domain as it runs, with its document.
func (p *Port) describe(ctx context.Context, dom remote.Domain) (model.Shape, *domxml.Node, error) {
	fail := func(err error) (model.Shape, *domxml.Node, error) {
		return model.Shape{}, nil, fmt.Errorf("describe %s on %s: %w", dom.Name, p.conf.Name, err)
	}
	text, err := p.conn.XML(ctx, dom, remote.XMLSecure)
	if err != nil {
		return fail(err)
	}
	doc, err := domxml.Parse(text)
	if err != nil {
		return fail(err)
	}
	s, err := domxml.ShapeOf(doc, p.conf.Networks)
	if err != nil {
		return fail(err)
	}
	// What the XML does not hold is asked for.
	for i, target := range domxml.DiskTargets(doc) {
		if s.Disks[i].Size, err = p.conn.BlockSize(ctx, dom, target); err != nil {
			return fail(err)
		}
	}
	base, err := p.modelFlags(ctx, s.CPU.Model)
	if err != nil {
		return fail(err)
	}
	s.CPU.Features = domxml.Flags(base, s.CPU.Features)
	return s, doc, nil
}

// modelFlags are the flags that a CPU model stands for, by libvirt's own table, which hosts of one version share. Models that
// are the host's stand for what the host has.
func (p *Port) modelFlags(ctx context.Context, name string) ([]string, error) {
	p.mu.Lock()
	flags, known := p.flags[name]
	p.mu.Unlock()
	if known {
		return flags, nil
	}
	var err error
	if name == "host" || name == "max" {
		flags, err = p.hostFlags(ctx)
	} else {
		flags, err = p.expand(ctx, domxml.New("cpu").With(domxml.New("arch").Say("x86_64"), domxml.New("model").Say(name)))
	}
	if err != nil {
		return nil, fmt.Errorf("flags of the CPU %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flags[name] = flags
	return flags, nil
}

// expand asks for all flags of a CPU.
func (p *Port) expand(ctx context.Context, cpu *domxml.Node) ([]string, error) {
	text, err := p.conn.BaselineCPU(ctx, cpu.String())
	if err != nil {
		return nil, err
	}
	doc, err := domxml.Parse(text)
	if err != nil {
		return nil, err
	}
	return domxml.Flags(nil, domxml.Features(doc)), nil
}
