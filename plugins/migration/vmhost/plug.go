package vmhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// command is one of those that add or remove a device. gone undoes it; nil when there is nothing to undo.
type command struct {
	name string
	args args.Object
	gone *command
	// again tells that it may have been done for another device before.
	again bool
}

// Plug adds a device: to the record first, so that none is in a VM which the record does not know.
func (h *Host) Plug(ctx context.Context, vm string, d hypervisor.Plug) error {
	m, err := h.machine(vm)
	if err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	before, err := m.describe(ctx)
	if err != nil {
		return err
	}
	after, commands, err := h.plan(before, d)
	if err == nil {
		err = errors.Join(args.Check(after), h.admits(after))
	}
	if err != nil {
		return fmt.Errorf("plug into %s: %w", vm, err)
	}
	if err := m.keep(func(r *record) { r.Shape = after }); err != nil {
		return err
	}
	for i, c := range commands {
		err := m.do(ctx, c.name, c.args, nil)
		if c.again && duplicate(err) {
			commands[i].gone = nil
			continue
		}
		if err == nil {
			continue
		}
		// ctx may be over, and what was added must go.
		undo := context.WithoutCancel(ctx)
		for _, done := range slices.Backward(commands[:i]) {
			if g := done.gone; g != nil {
				err = errors.Join(err, m.do(undo, g.name, g.args, nil))
			}
		}
		return errors.Join(fmt.Errorf("plug into %s: %w", vm, err), m.keep(func(r *record) { r.Shape = before }))
	}
	// Where it sits is now known.
	full, err := m.describe(ctx)
	if err != nil {
		return err
	}
	return m.keep(func(r *record) { r.Shape = full })
}

// duplicate tells that what was to be added is there already.
func duplicate(err error) bool {
	var refused *qmp.Error
	return errors.As(err, &refused) && (strings.Contains(refused.Desc, "uplicate") || strings.Contains(refused.Desc, "already"))
}

// plan is what the VM will be, and the commands that make it so.
func (h *Host) plan(s model.Shape, d hypervisor.Plug) (model.Shape, []command, error) {
	object := func(o args.Object) command {
		return command{name: "object-add", args: o, gone: &command{name: "object-del", args: args.Object{"id": o["id"]}}}
	}
	device := func(o args.Object) command { return command{name: "device_add", args: o} }
	switch {
	case d.VCPU:
		if s.VCPUs >= s.MaxVCPUs {
			return s, nil, fmt.Errorf("it has all of its %d vCPUs", s.MaxVCPUs)
		}
		s.VCPUs++
		return s, []command{device(args.VCPU(s.CPU.Model, s.VCPUs-1))}, nil
	case d.DIMM != nil:
		s.Memory.DIMMs = append(slices.Clone(s.Memory.DIMMs), *d.DIMM)
		return s, []command{object(args.MemoryBackend(d.DIMM.ID, d.DIMM.Size)), device(args.DIMM(*d.DIMM))}, nil
	case d.VirtioMem != nil:
		s.Memory.VirtioMem = append(slices.Clone(s.Memory.VirtioMem), *d.VirtioMem)
		return s, []command{object(args.MemoryBackend(d.VirtioMem.ID, d.VirtioMem.Max)), device(args.VirtioMem(*d.VirtioMem))}, nil
	case d.NIC != nil:
		s.NICs = append(slices.Clone(s.NICs), *d.NIC)
		w, ok := h.networks[d.NIC.Network]
		if !ok {
			return s, nil, fmt.Errorf("this host has no network %q: add it to `networks` in its configuration", d.NIC.Network)
		}
		var list []command
		for _, o := range w.Segment(d.NIC.Network) {
			list = append(list, command{name: "netdev_add", args: o, again: true})
		}
		port := command{name: "netdev_add", args: w.Port(d.NIC.Network, d.NIC.ID), gone: &command{name: "netdev_del", args: args.Object{"id": args.PortID(d.NIC.ID)}}}
		return s, append(list, port, device(args.NIC(*d.NIC))), nil
	case d.Disk != nil:
		s.Disks = append(slices.Clone(s.Disks), *d.Disk)
		o := args.Options{Tokens: h.c.Tokens, NBDCredentials: h.c.GatewayTLS}
		node, err := args.Node(*d.Disk, o)
		if err != nil {
			return s, nil, err
		}
		var list []command
		if node["tls-creds"] != nil {
			list = append(list, command{name: "object-add", args: args.Credentials(o), again: true})
		}
		add := command{name: "blockdev-add", args: node, gone: &command{name: "blockdev-del", args: args.Object{"node-name": args.NodeID(d.Disk.ID)}}}
		return s, append(list, add, device(args.Disk(*d.Disk))), nil
	}
	return s, nil, errors.New("no device was named")
}

// Unplug asks the guest to let a device go, and returns once it has. One that is not there is gone.
func (h *Host) Unplug(ctx context.Context, vm, id string) error {
	m, err := h.machine(vm)
	if err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	before, err := m.describe(ctx)
	if err != nil {
		return err
	}
	after, backend := without(before, id)
	switch highest := "cpu" + strconv.Itoa(before.VCPUs-1); {
	case backend == nil && cpuNumber(id) > 0 && cpuNumber(id) < before.VCPUs && before.Accel == "tcg":
		// The vCPU's view of memory is freed and stays registered: the next change of a device crashes QEMU.
		return fmt.Errorf("unplug %s of %s: QEMU under TCG does not survive it: leave the vCPU offline in the guest", id, vm)
	case backend == nil && id == highest && before.VCPUs > 1:
		after.VCPUs--
	case backend == nil && cpuNumber(id) > 0 && cpuNumber(id) < before.VCPUs:
		return fmt.Errorf("unplug %s of %s: %s goes first", id, vm, highest)
	case backend == nil:
		return nil
	}
	if err := m.removeDevice(ctx, id); err != nil {
		return fmt.Errorf("unplug %s of %s: %w", id, vm, err)
	}
	if backend != nil {
		if err := m.do(ctx, backend.name, backend.args, nil); err != nil {
			return fmt.Errorf("unplug %s of %s: %w", id, vm, err)
		}
	}
	return m.keep(func(r *record) { r.Shape = after })
}

// cpuNumber is n of "cpun", 0 of anything else.
func cpuNumber(id string) int {
	text, ok := strings.CutPrefix(id, "cpu")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 1 {
		return 0
	}
	return n
}

// without returns the shape without a device, and what removes its backend; nil when there is no such device.
func without(s model.Shape, id string) (model.Shape, *command) {
	n := len(s.NICs) + len(s.Disks) + len(s.Memory.DIMMs) + len(s.Memory.VirtioMem)
	s.Memory.DIMMs = slices.DeleteFunc(slices.Clone(s.Memory.DIMMs), func(d model.DIMM) bool { return d.ID == id })
	s.Memory.VirtioMem = slices.DeleteFunc(slices.Clone(s.Memory.VirtioMem), func(d model.VirtioMem) bool { return d.ID == id })
	if len(s.NICs)+len(s.Disks)+len(s.Memory.DIMMs)+len(s.Memory.VirtioMem) < n {
		return s, &command{name: "object-del", args: args.Object{"id": args.BackendID(id)}}
	}
	s.NICs = slices.DeleteFunc(slices.Clone(s.NICs), func(d model.NIC) bool { return d.ID == id })
	if len(s.NICs)+len(s.Disks)+len(s.Memory.DIMMs)+len(s.Memory.VirtioMem) < n {
		return s, &command{name: "netdev_del", args: args.Object{"id": args.PortID(id)}}
	}
	s.Disks = slices.DeleteFunc(slices.Clone(s.Disks), func(d model.Disk) bool { return d.ID == id })
	if len(s.NICs)+len(s.Disks)+len(s.Memory.DIMMs)+len(s.Memory.VirtioMem) < n {
		return s, &command{name: "blockdev-del", args: args.Object{"node-name": args.NodeID(id)}}
	}
	return s, nil
}

// lookAgain is how often a device that shall go is looked for without an event of it: QEMU 7.2 does not tell of vCPUs
// that were ejected.
const lookAgain = 500 * time.Millisecond

// removeDevice waits for the guest, which may refuse, or not answer at all until ctx ends.
func (m *machine) removeDevice(ctx context.Context, id string) error {
	events, stop := m.host.events.listen()
	defer stop()
	err := m.do(ctx, "device_del", args.Object{"id": id}, nil)
	var refused *qmp.Error
	switch {
	case errors.As(err, &refused) && refused.Class == "DeviceNotFound":
		return nil
	case errors.As(err, &refused) && strings.Contains(refused.Desc, "in the process of unplug"):
		// It was asked before, and answers when it does.
	case err != nil:
		return err
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		present, err := m.present(ctx)
		if err != nil || !slices.Contains(present, id) {
			return err
		}
		select {
		case e, ok := <-events:
			if !ok {
				return errors.New("events were lost: ask again")
			}
			denied := e.Name == "DEVICE_UNPLUG_GUEST_ERROR" || e.Name == "MEM_UNPLUG_ERROR"
			if denied && e.VM == m.name && strings.Contains(string(e.Data), `"`+id+`"`) {
				return errors.New("the guest refuses to let it go")
			}
		case <-tick.C:
		case <-m.ended:
			return errors.New("QEMU has ended")
		case <-ctx.Done():
			return fmt.Errorf("the guest has not let it go: %w", ctx.Err())
		}
	}
}
