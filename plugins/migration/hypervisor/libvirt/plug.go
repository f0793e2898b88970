package libvirt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/domxml"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/libvirt/remote"
)

// Plug implements hypervisor.Port. A VM that is defined has the device at its next start, too.
func (p *Port) Plug(ctx context.Context, vm string, d hypervisor.Plug) error {
	dom, flags, err := p.changeable(ctx, vm)
	if err == nil && d.VCPU {
		err = p.vcpus(ctx, dom, flags, +1)
	} else if err == nil {
		var doc, device *domxml.Node
		if _, doc, err = p.describe(ctx, dom); err == nil {
			device, err = p.element(d, len(domxml.DiskTargets(doc)))
		}
		if err == nil {
			err = p.conn.AttachDevice(ctx, dom, device.String(), flags)
		}
	}
	if err != nil {
		return fmt.Errorf("plug into %s on %s: %w", vm, p.conf.Name, err)
	}
	return nil
}

// changeable finds a VM, and whether to change its definition as well.
func (p *Port) changeable(ctx context.Context, vm string) (dom remote.Domain, flags uint32, err error) {
	if dom, err = p.active(ctx, vm); err != nil {
		return dom, 0, err
	}
	persistent, err := p.conn.Persistent(ctx, dom)
	if flags = remote.Live; persistent {
		flags |= remote.Config
	}
	return dom, flags, err
}

// element is the XML of what is plugged.
func (p *Port) element(d hypervisor.Plug, disks int) (*domxml.Node, error) {
	switch {
	case d.DIMM != nil:
		return domxml.DIMM(*d.DIMM), nil
	case d.VirtioMem != nil:
		return domxml.VirtioMem(*d.VirtioMem)
	case d.NIC != nil:
		return domxml.NIC(*d.NIC, p.conf.Networks)
	case d.Disk != nil:
		return domxml.Disk(*d.Disk, disks)
	}
	return nil, errors.New("nothing was said to plug")
}

// vcpus changes the number of vCPUs. libvirt waits for the guest to let one go, for some seconds.
func (p *Port) vcpus(ctx context.Context, dom remote.Domain, flags uint32, by int) error {
	s, _, err := p.describe(ctx, dom)
	if err != nil {
		return err
	}
	n := s.VCPUs + by
	if n < 1 || n > s.MaxVCPUs {
		return fmt.Errorf("%d vCPUs: the VM can have 1 to %d", n, s.MaxVCPUs)
	}
	return p.conn.SetVCPUs(ctx, dom, uint32(n), flags)
}

// Unplug implements hypervisor.Port.
func (p *Port) Unplug(ctx context.Context, vm, id string) error {
	dom, flags, err := p.changeable(ctx, vm)
	if err == nil {
		err = p.unplug(ctx, dom, id, flags)
	}
	if err != nil {
		return fmt.Errorf("unplug %s from %s on %s: %w", id, vm, p.conf.Name, err)
	}
	return nil
}

func (p *Port) unplug(ctx context.Context, dom remote.Domain, id string, flags uint32) error {
	s, doc, err := p.describe(ctx, dom)
	if err != nil {
		return err
	}
	if number, ok := vcpuNumber(id); ok {
		switch {
		case number >= s.VCPUs:
			return nil // done before
		case number != s.VCPUs-1 || number == 0:
			return fmt.Errorf("libvirt takes away the last vCPU only, which is cpu%d", s.VCPUs-1)
		}
		return p.vcpus(ctx, dom, flags, -1)
	}
	device := domxml.Find(doc, id)
	if device == nil {
		return nil
	}
	left := p.await(dom.Name, device.Get("alias").Attr("name"))
	defer left.stop()
	if err := p.conn.DetachDevice(ctx, dom, device.String(), remote.Live); err != nil {
		return err
	}
	if err := p.released(ctx, dom, id, left.told); err != nil {
		return err
	}
	if flags&remote.Config != 0 {
		// The definition may never have had it.
		if err := p.conn.DetachDevice(ctx, dom, device.String(), remote.Config); err != nil {
			p.log.Debug("a device that was unplugged is not in the definition", "vm", dom.Name, "device", id, "err", err)
		}
	}
	return nil
}

// vcpuNumber reads the ID of a vCPU, as "cpu3".
func vcpuNumber(id string) (int, bool) {
	if len(id) < 4 || id[:3] != "cpu" {
		return 0, false
	}
	n, err := strconv.Atoi(id[3:])
	return n, err == nil
}

// released waits until the guest has let go of a device. The call that asked may have waited for it itself, in which case
// there is no event any more.
func (p *Port) released(ctx context.Context, dom remote.Domain, id string, told <-chan bool) error {
	tick := time.NewTicker(10 * pollEvery)
	defer tick.Stop()
	for {
		_, doc, err := p.describe(ctx, dom)
		if err != nil || domxml.Find(doc, id) == nil {
			return err
		}
		select {
		case went := <-told:
			if !went {
				return errors.New("the guest keeps it")
			}
			return nil
		case <-tick.C:
		case <-p.conn.Done():
			return p.conn.Err()
		case <-ctx.Done():
			return fmt.Errorf("the guest has not let go of it: %w", ctx.Err())
		}
	}
}

// waiting is somebody who waits for a device to go.
type waiting struct {
	told chan bool
	stop func()
}

// await registers for events of a device.
func (p *Port) await(vm, alias string) waiting {
	w := waiting{told: make(chan bool, 1)}
	key := vm + "\x00" + alias
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removed[key] = append(p.removed[key], w.told)
	w.stop = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.removed[key] = slices.DeleteFunc(p.removed[key], func(c chan bool) bool { return c == w.told }); len(p.removed[key]) == 0 {
			delete(p.removed, key)
		}
	}
	return w
}

// wake tells those who wait for the device of an event.
func (p *Port) wake(e remote.Event) {
	if e.Kind != remote.EventDeviceRemoved && e.Kind != remote.EventRemovalFailed {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, told := range p.removed[e.Domain.Name+"\x00"+e.Device] {
		select {
		case told <- e.Kind == remote.EventDeviceRemoved:
		default: // told before
		}
	}
}

// Resize implements hypervisor.Port.
func (p *Port) Resize(ctx context.Context, vm, id string, bytes uint64) (uint64, error) {
	dom, err := p.active(ctx, vm)
	if err == nil {
		bytes, err = p.resize(ctx, dom, id, bytes)
	}
	if err != nil {
		return 0, fmt.Errorf("resize %s of %s on %s: %w", id, vm, p.conf.Name, err)
	}
	return bytes, nil
}

func (p *Port) resize(ctx context.Context, dom remote.Domain, id string, want uint64) (uint64, error) {
	device, err := p.device(ctx, dom, id)
	if err != nil {
		return 0, err
	}
	if err := domxml.Request(device, want); err != nil {
		return 0, err
	}
	if err := p.conn.UpdateDevice(ctx, dom, device.String(), remote.Live); err != nil {
		return 0, err
	}
	tick := time.NewTicker(5 * pollEvery)
	defer tick.Stop()
	for got := uint64(0); ; {
		if device, err = p.device(ctx, dom, id); err == nil {
			got, err = domxml.Current(device)
		}
		if ctx.Err() != nil || err == nil && got == want {
			return got, nil
		}
		if err != nil {
			return 0, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return got, nil
		}
	}
}

func (p *Port) device(ctx context.Context, dom remote.Domain, id string) (*domxml.Node, error) {
	_, doc, err := p.describe(ctx, dom)
	if err != nil {
		return nil, err
	}
	if d := domxml.Find(doc, id); d != nil {
		return d, nil
	}
	return nil, fmt.Errorf("there is no device %s", id)
}
