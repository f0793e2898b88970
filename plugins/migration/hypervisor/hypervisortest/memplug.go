package hypervisortest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Plug implements hypervisor.Port.
func (p *Port) Plug(ctx context.Context, vm string, d hypervisor.Plug) error {
	return p.call(ctx, "Plug", vm, func(h *host) error {
		v, err := h.vm(vm)
		if err != nil {
			return err
		}
		s := clone(v.shape)
		switch {
		case d.VCPU:
			if s.VCPUs >= s.MaxVCPUs {
				return fmt.Errorf("plug vCPU into %s: all %d are there", vm, s.MaxVCPUs)
			}
			s.VCPUs++
		case d.DIMM != nil:
			s.Memory.DIMMs = append(s.Memory.DIMMs, *d.DIMM)
		case d.VirtioMem != nil:
			s.Memory.VirtioMem = append(s.Memory.VirtioMem, *d.VirtioMem)
		case d.NIC != nil:
			s.NICs = append(s.NICs, *d.NIC)
		case d.Disk != nil:
			s.Disks = append(s.Disks, *d.Disk)
		}
		if ids := IDs(s); len(ids) != len(slices.Compact(ids)) {
			return fmt.Errorf("plug into %s: a device has this id already", vm)
		}
		v.shape = s
		return nil
	})
}

// Unplug implements hypervisor.Port.
func (p *Port) Unplug(ctx context.Context, vm, id string) error {
	clings := false
	err := p.call(ctx, "Unplug", vm, func(h *host) error {
		v, err := h.vm(vm)
		if err != nil {
			return err
		}
		s := clone(v.shape)
		if !slices.Contains(IDs(s), id) {
			return nil // it is gone: done before
		}
		if clings = slices.Contains(p.w.behaviour(vm).Clings, id); clings {
			return nil
		}
		if id == "cpu"+strconv.Itoa(s.VCPUs-1) {
			s.VCPUs--
		}
		s.Memory.DIMMs = slices.DeleteFunc(s.Memory.DIMMs, func(d model.DIMM) bool { return d.ID == id })
		s.Memory.VirtioMem = slices.DeleteFunc(s.Memory.VirtioMem, func(d model.VirtioMem) bool { return d.ID == id })
		s.NICs = slices.DeleteFunc(s.NICs, func(d model.NIC) bool { return d.ID == id })
		s.Disks = slices.DeleteFunc(s.Disks, func(d model.Disk) bool { return d.ID == id })
		v.shape = s
		p.w.event(p.name, vm, "DEVICE_DELETED", id)
		return nil
	})
	if err == nil && clings {
		<-ctx.Done()
		return fmt.Errorf("unplug %s: the guest keeps it: %w", id, ctx.Err())
	}
	return err
}

// IDs of everything that can be unplugged, sorted; vCPUs are "cpu1" and so on.
func IDs(s model.Shape) []string {
	var ids []string
	for n := 1; n < s.VCPUs; n++ {
		ids = append(ids, "cpu"+strconv.Itoa(n))
	}
	for _, d := range s.Memory.DIMMs {
		ids = append(ids, d.ID)
	}
	for _, d := range s.Memory.VirtioMem {
		ids = append(ids, d.ID)
	}
	for _, d := range s.NICs {
		ids = append(ids, d.ID)
	}
	for _, d := range s.Disks {
		ids = append(ids, d.ID)
	}
	slices.Sort(ids)
	return ids
}

// Resize implements hypervisor.Port.
func (p *Port) Resize(ctx context.Context, vm, id string, bytes uint64) (got uint64, err error) {
	err = p.call(ctx, "Resize", vm, func(h *host) error {
		v, err := h.vm(vm)
		if err != nil {
			return err
		}
		v.shape = clone(v.shape)
		for i := range v.shape.Memory.VirtioMem {
			if m := &v.shape.Memory.VirtioMem[i]; m.ID == id {
				m.Requested = bytes
				got = max(bytes, min(p.w.behaviour(vm).Floor, m.Max))
				return nil
			}
		}
		return fmt.Errorf("resize %s of %s: there is no such device", id, vm)
	})
	return got, err
}

// DirtyRate implements hypervisor.Port.
func (p *Port) DirtyRate(ctx context.Context, vm string, _ time.Duration) (rate float64, err error) {
	err = p.call(ctx, "DirtyRate", vm, func(h *host) error {
		_, err := h.vm(vm)
		rate = p.w.behaviour(vm).Dirty
		return err
	})
	return rate, err
}

// Channel implements hypervisor.Port.
func (p *Port) Channel(ctx context.Context, vm string) (conn net.Conn, err error) {
	err = p.call(ctx, "Channel", vm, func(h *host) error {
		_, err := h.vm(vm)
		return err
	})
	if err != nil {
		return nil, err
	}
	if p.w.Dial == nil {
		return nil, fmt.Errorf("channel of %s: no agent answers", vm)
	}
	return p.w.Dial(p.name, vm)
}

// clone copies the lists that a Plug changes.
func clone(s model.Shape) model.Shape {
	s.Memory.DIMMs, s.Memory.VirtioMem = slices.Clone(s.Memory.DIMMs), slices.Clone(s.Memory.VirtioMem)
	s.NICs, s.Disks = slices.Clone(s.NICs), slices.Clone(s.Disks)
	return s
}
