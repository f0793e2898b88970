package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// Host is a bare QEMU as a host with one VM.
type Host struct {
	client *Client
	name   string

	events chan hypervisor.Event
	wg     sync.WaitGroup
}

var _ hypervisor.Host = (*Host)(nil)

// DialHost connects to a monitor. name is the VM's name if QEMU was given none.
func DialHost(ctx context.Context, network, address, name string, opts *Options) (*Host, error) {
	c, err := Dial(ctx, network, address, opts)
	if err != nil {
		return nil, err
	}
	// The guest's own name comes before ours: it is the one people gave to -name.
	var named struct{ Name string }
	if err := c.optional(ctx, "query-name", nil, &named); err != nil {
		c.Close()
		return nil, err
	}
	if named.Name != "" {
		name = named.Name
	}
	h := &Host{client: c, name: name, events: make(chan hypervisor.Event)}
	h.wg.Go(h.forward)
	return h, nil
}

// forward passes events on, until the client's channel is closed.
func (h *Host) forward() {
	defer close(h.events)
	for e := range h.client.Events() {
		out := hypervisor.Event{Time: e.Time, VM: h.name, Name: e.Name, Detail: string(e.Data)}
		select {
		case h.events <- out:
		case <-h.client.done:
			// Nobody needs to hear more of a connection that is gone; its state is unknown now.
			return
		}
	}
}

// Events implements hypervisor.Host.
func (h *Host) Events() <-chan hypervisor.Event { return h.events }

// Err implements hypervisor.Host.
func (h *Host) Err() error { return h.client.Err() }

// Close implements hypervisor.Host.
func (h *Host) Close() error {
	err := h.client.Close()
	h.wg.Wait()
	return err
}

// List implements hypervisor.Host.
func (h *Host) List(ctx context.Context) ([]hypervisor.VM, error) {
	c := h.client
	vm := hypervisor.VM{Name: h.name, Hypervisor: c.Version()}
	var id struct{ UUID string }
	var cpus []json.RawMessage
	var slots []struct {
		VCPUs int    `json:"vcpus-count"`
		Path  string `json:"qom-path"` // of the CPU in the slot, empty when none is
	}
	var memory struct {
		Base    uint64 `json:"base-memory"`
		Plugged uint64 `json:"plugged-memory"`
	}
	var err error
	if vm.State, vm.Detail, err = Status(ctx, c.Do); err != nil {
		return nil, err
	}
	if err := errors.Join(
		c.Do(ctx, "query-uuid", nil, &id),
		c.Do(ctx, "query-cpus-fast", nil, &cpus),
		c.optional(ctx, "query-hotpluggable-cpus", nil, &slots),
		c.optional(ctx, "query-memory-size-summary", nil, &memory),
	); err != nil {
		return nil, err
	}
	if strings.Trim(id.UUID, "0-") != "" { // QEMU says all zeroes when it was given none
		vm.UUID = id.UUID
	}
	vm.VCPUs = len(cpus)
	for _, s := range slots {
		vm.MaxVCPUs += s.VCPUs
	}
	vm.MaxVCPUs = max(vm.MaxVCPUs, vm.VCPUs)
	vm.Memory = memory.Base + memory.Plugged
	if vm.Devices, err = h.devices(ctx); err != nil {
		return nil, err
	}
	return []hypervisor.VM{vm}, nil
}

// optional is Do for commands that some machines do not have; out then stays as it is.
func (c *Client) optional(ctx context.Context, command string, args, out any) error {
	err := c.Do(ctx, command, args, out)
	var refused *Error
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// devices lists what was added with -device and device_add. QEMU keeps those with an id and
// those without in two containers of its object tree.
func (h *Host) devices(ctx context.Context) ([]hypervisor.Device, error) {
	images, err := h.images(ctx)
	if err != nil {
		return nil, err
	}
	var list []hypervisor.Device
	for _, at := range []string{"/machine/peripheral", "/machine/peripheral-anon"} {
		var children []struct{ Name, Type string }
		if err := h.client.optional(ctx, "qom-list", map[string]string{"path": at}, &children); err != nil {
			return nil, err
		}
		for _, ch := range children {
			model, ok := strings.CutPrefix(ch.Type, "child<")
			if !ok {
				continue // "type" is a property, not a device
			}
			d := hypervisor.Device{ID: ch.Name, Model: strings.TrimSuffix(model, ">")}
			path := at + "/" + ch.Name
			if strings.HasSuffix(at, "-anon") {
				d.ID = ""
			}
			d.Kind = kind(d.Model)
			if image, ok := images[ch.Name]; ok && d.ID != "" {
				d.Kind, d.Backing = hypervisor.Disk, image
			} else if image, ok := images[path]; ok {
				d.Kind, d.Backing = hypervisor.Disk, image
			}
			list = append(list, d)
		}
	}
	slices.SortFunc(list, func(a, b hypervisor.Device) int {
		return strings.Compare(a.ID+" "+a.Model, b.ID+" "+b.Model)
	})
	return list, nil
}

// images maps block devices, by id or by path of the device, to their image.
func (h *Host) images(ctx context.Context) (map[string]string, error) {
	var blocks []struct {
		Device   string // the drive's old name, "" for -blockdev
		QDev     string // the device's id or its path in the object tree
		Inserted *struct{ File string }
	}
	if err := h.client.optional(ctx, "query-block", nil, &blocks); err != nil {
		return nil, err
	}
	images := make(map[string]string, len(blocks))
	for _, b := range blocks {
		if b.QDev == "" || b.Inserted == nil {
			continue
		}
		// virtio-blk and NVMe report a child of the device that a person would name.
		path := strings.TrimSuffix(b.QDev, "/virtio-backend")
		images[path] = b.Inserted.File
		if id, ok := strings.CutPrefix(path, "/machine/peripheral/"); ok && !strings.Contains(id, "/") {
			images[id] = b.Inserted.File
		}
	}
	return images, nil
}

// kind sorts a device by its model's name, which QEMU chooses with some regularity.
func kind(model string) hypervisor.DeviceKind {
	switch {
	case strings.HasSuffix(model, "-cpu"):
		return hypervisor.CPU
	case strings.HasSuffix(model, "-dimm"), strings.HasPrefix(model, "virtio-mem"), model == "nvdimm":
		return hypervisor.DIMM
	case strings.HasPrefix(model, "virtio-net"), strings.HasPrefix(model, "e1000"), strings.HasPrefix(model, "rtl81"),
		strings.HasPrefix(model, "vmxnet"), strings.HasPrefix(model, "i825"), strings.HasPrefix(model, "ne2k"), model == "pcnet", model == "igb":
		return hypervisor.NIC
	case strings.HasPrefix(model, "virtio-blk"), strings.HasPrefix(model, "nvme"), strings.HasSuffix(model, "-hd"), strings.HasSuffix(model, "-cd"), model == "usb-storage":
		return hypervisor.Disk
	}
	return hypervisor.Other
}

// Do runs a QMP command; (*Client).Do is one.
type Do func(ctx context.Context, command string, args, out any) error

// Status asks for the state of a VM; detail is QEMU's own word for it.
func Status(ctx context.Context, do Do) (s hypervisor.State, detail string, err error) {
	var status struct{ Status string }
	if err := do(ctx, "query-status", nil, &status); err != nil {
		return hypervisor.Unknown, "", err
	}
	s = state(status.Status)
	if s == hypervisor.Moving {
		// QEMU says that a migration has completed a moment before it says that of the VM.
		var m migration
		if do(ctx, "query-migrate", nil, &m) == nil && m.Status == "completed" {
			s = hypervisor.Moved
		}
	}
	return s, status.Status, nil
}

// state maps a RunState of QEMU. One that is not known is kept as the detail of Unknown: a new
// QEMU must not make a plan believe anything.
func state(runState string) hypervisor.State {
	switch runState {
	case "running":
		return hypervisor.Running
	case "paused", "debug", "suspended", "save-vm", "restore-vm", "watchdog":
		return hypervisor.Paused
	case "prelaunch", "preconfig":
		return hypervisor.Starting
	case "inmigrate":
		return hypervisor.Incoming
	case "finish-migrate", "colo":
		return hypervisor.Moving
	case "postmigrate":
		return hypervisor.Moved
	case "shutdown":
		return hypervisor.Stopped
	case "io-error", "internal-error", "guest-panicked":
		return hypervisor.Failed
	}
	return hypervisor.Unknown
}
