package vmhost

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// facts are what QEMU says of a VM's devices.
type facts struct {
	vcpus    int
	present  []string // ids of devices
	dimms    map[string]dimmFact
	memory   map[string]memoryFact // virtio-mem
	places   map[string]place      // PCI devices
	features []string              // of the CPU; nil when the record has them
}

type dimmFact struct {
	Addr uint64 `json:"addr"`
	Slot int    `json:"slot"`
}

type memoryFact struct {
	Requested uint64 `json:"requested-size"`
	Block     uint64 `json:"block-size"`
}

type place struct{ bus, addr string }

// describe brings what is kept of a VM together with what it has: a plug that was broken off may have left either.
func (m *machine) describe(ctx context.Context) (model.Shape, error) {
	if m.unread != nil {
		return model.Shape{}, m.unread
	}
	s := m.record().Shape
	f, err := m.look(ctx, s)
	if err != nil {
		return model.Shape{}, fmt.Errorf("describe %s: %w", m.name, err)
	}
	return f.apply(s), nil
}

func (m *machine) look(ctx context.Context, s model.Shape) (facts, error) {
	f := facts{dimms: map[string]dimmFact{}, memory: map[string]memoryFact{}, places: map[string]place{}}
	var slots []struct {
		Path string `json:"qom-path"`
	}
	var modules []struct {
		Type string
		Data struct {
			ID string
			dimmFact
			memoryFact
		}
	}
	var buses []pciBus
	var err error
	f.present, err = m.present(ctx)
	if err := errors.Join(err,
		m.do(ctx, "query-hotpluggable-cpus", nil, &slots),
		m.do(ctx, "query-memory-devices", nil, &modules),
		m.do(ctx, "query-pci", nil, &buses),
	); err != nil {
		return f, err
	}
	for _, slot := range slots {
		if slot.Path != "" {
			f.vcpus++
		}
	}
	for _, d := range modules {
		if d.Type == "virtio-mem" {
			f.memory[d.Data.ID] = d.Data.memoryFact
		} else {
			f.dimms[d.Data.ID] = d.Data.dimmFact
		}
	}
	root := "pci.0"
	if strings.Contains(s.Machine, "q35") {
		root = "pcie.0"
	}
	for _, b := range buses {
		b.walk(root, f.places)
	}
	if len(s.CPU.Features) > 0 {
		return f, nil
	}
	f.features, err = features(ctx, m.do, s.CPU.Model)
	return f, err
}

// present are the ids of the devices that are there.
func (m *machine) present(ctx context.Context) ([]string, error) {
	var children []struct{ Name, Type string }
	if err := m.do(ctx, "qom-list", args.Object{"path": "/machine/peripheral"}, &children); err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range children {
		if strings.HasPrefix(c.Type, "child<") { // "type" is a property, not a device
			ids = append(ids, c.Name)
		}
	}
	return ids, nil
}

// pciBus is what query-pci says.
type pciBus struct {
	Devices []struct {
		Slot     int
		Function int
		ID       string  `json:"qdev_id"`
		Bridge   *pciBus `json:"pci_bridge"`
	}
}

func (b pciBus) walk(name string, places map[string]place) {
	for _, d := range b.Devices {
		addr := "0x" + strconv.FormatInt(int64(d.Slot), 16)
		if d.Function != 0 {
			addr += "." + strconv.Itoa(d.Function)
		}
		if d.ID != "" {
			places[d.ID] = place{name, addr}
		}
		if d.Bridge != nil && d.ID != "" {
			d.Bridge.walk(d.ID, places)
		}
	}
}

// apply makes the shape that the facts tell of: without devices that are gone, and with what QEMU has chosen where the
// record leaves it open.
func (f facts) apply(s model.Shape) model.Shape {
	if f.vcpus > 0 {
		s.VCPUs = f.vcpus
	}
	if f.features != nil {
		s.CPU.Features = f.features
	}
	gone := func(id string) bool { return !slices.Contains(f.present, id) }
	at := func(id string, bus, addr *string) {
		if p, ok := f.places[id]; ok && *addr == "" {
			*addr = p.addr
			if *bus == "" {
				*bus = p.bus
			}
		}
	}
	s.Memory.DIMMs = slices.DeleteFunc(slices.Clone(s.Memory.DIMMs), func(d model.DIMM) bool { return gone(d.ID) })
	for i := range s.Memory.DIMMs {
		d := &s.Memory.DIMMs[i]
		if is, ok := f.dimms[d.ID]; ok {
			d.Addr, d.Slot = is.Addr, is.Slot
		}
	}
	s.Memory.VirtioMem = slices.DeleteFunc(slices.Clone(s.Memory.VirtioMem), func(d model.VirtioMem) bool { return gone(d.ID) })
	for i := range s.Memory.VirtioMem {
		d := &s.Memory.VirtioMem[i]
		if is, ok := f.memory[d.ID]; ok {
			d.Requested, d.Block = is.Requested, is.Block
		}
		at(d.ID, &d.Bus, &d.Addr)
	}
	s.NICs = slices.DeleteFunc(slices.Clone(s.NICs), func(d model.NIC) bool { return gone(d.ID) })
	for i := range s.NICs {
		at(s.NICs[i].ID, &s.NICs[i].Bus, &s.NICs[i].Addr)
	}
	s.Disks = slices.DeleteFunc(slices.Clone(s.Disks), func(d model.Disk) bool { return gone(d.ID) })
	for i := range s.Disks {
		at(s.Disks[i].ID, &s.Disks[i].Bus, &s.Disks[i].Addr)
	}
	s.Others = slices.Clone(s.Others)
	for i := range s.Others {
		s.Others[i].Args = f.placed(s.Others[i])
	}
	// What is empty was nothing before, too: the digest must not change by looking.
	s.Memory.DIMMs, s.Memory.VirtioMem = slices.Clip(s.Memory.DIMMs), slices.Clip(s.Memory.VirtioMem)
	return s
}

// placed adds the address to the arguments of a device that has none.
func (f facts) placed(d model.Device) string {
	p, ok := f.places[d.ID]
	if !ok || strings.Contains(d.Args, ",addr=") {
		return d.Args
	}
	if !strings.Contains(d.Args, ",bus=") {
		d.Args += ",bus=" + p.bus
	}
	return d.Args + ",addr=" + p.addr
}

// features are the flags of a CPU model under the accelerator of a running QEMU, sorted, without those that this host cannot
// give: QEMU leaves them out with a warning.
func features(ctx context.Context, do func(ctx context.Context, command string, args, out any) error, name string) ([]string, error) {
	var definitions []cpuDefinition
	if err := do(ctx, "query-cpu-definitions", nil, &definitions); err != nil {
		return nil, err
	}
	for _, d := range definitions {
		if d.Name == name {
			return d.features(ctx, do)
		}
	}
	return nil, fmt.Errorf("there is no CPU model %s", name)
}

// cpuDefinition is what query-cpu-definitions says.
type cpuDefinition struct {
	Name        string
	Type        string   `json:"typename"`
	Unavailable []string `json:"unavailable-features"`
	Deprecated  bool
}

func (d cpuDefinition) features(ctx context.Context, do func(ctx context.Context, command string, args, out any) error) ([]string, error) {
	var r struct {
		Model struct {
			// A static expansion has flags, and numbers such as the family.
			Props map[string]any
		}
	}
	err := do(ctx, "query-cpu-model-expansion", args.Object{"type": "static", "model": args.Object{"name": d.Name}}, &r)
	if err != nil {
		return nil, err
	}
	list := []string{}
	for name, value := range r.Model.Props {
		if on, flag := value.(bool); flag && on && !slices.Contains(d.Unavailable, name) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}
