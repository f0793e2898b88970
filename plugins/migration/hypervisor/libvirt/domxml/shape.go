package domxml

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// accels are the accelerators by the types of domains.
var accels = table{{"kvm", "kvm"}, {"qemu", "tcg"}}

// ShapeOf reads a domain as it runs. Two things are not in its XML and stay empty: sizes of disks, and the CPU's flags
// beyond those that are named, which CPU.Features then holds with "+" or "-" before them (see Flags).
func ShapeOf(dom *Node, nets Networks) (model.Shape, error) {
	s := model.Shape{Version: model.ShapeVersion, VM: dom.Get("name").Content(), UUID: dom.Get("uuid").Content()}
	for _, read := range []func(*Node, *model.Shape) error{readBoard, readVCPUs, readCPU, readMemory} {
		if err := read(dom, &s); err != nil {
			return model.Shape{}, fmt.Errorf("domain %s: %w", s.VM, err)
		}
	}
	for _, d := range dom.Get("devices").Elements() {
		if err := readDevice(d, &s, nets); err != nil {
			return model.Shape{}, fmt.Errorf("domain %s: %w", s.VM, err)
		}
	}
	// libvirt prints devices in an order of its own, which differs between a VM that was started and one that arrived.
	slices.SortFunc(s.Memory.DIMMs, func(a, b model.DIMM) int { return a.Slot - b.Slot })
	slices.SortFunc(s.Others, func(a, b model.Device) int { return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Args, b.Args)) })
	return s, nil
}

func readBoard(dom *Node, s *model.Shape) error {
	accel := accels.value(dom.Attr("type"))
	if accel == "" {
		return fmt.Errorf("<domain type=%q>: only kvm and qemu can move", dom.Attr("type"))
	}
	os := dom.Get("os")
	kind := os.Get("type")
	if kind.Content() != "hvm" || kind.Attr("arch") != "x86_64" {
		return fmt.Errorf("<os><type arch=%q>%s: only hvm on x86_64 can move", kind.Attr("arch"), kind.Content())
	}
	s.Accel, s.Machine = accel, kind.Attr("machine")
	s.Boot = model.Boot{
		Kernel: os.Get("kernel").Content(), Initrd: os.Get("initrd").Content(), Append: os.Get("cmdline").Content(),
		Firmware: os.Get("loader").Content(),
	}
	for _, name := range []string{"launchSecurity", "qemu:commandline", "qemu:override"} {
		if dom.Get(name) != nil {
			return fmt.Errorf("<%s>: what it asks of the host cannot be held against another", name)
		}
	}
	return nil
}

func readVCPUs(dom *Node, s *model.Shape) (err error) {
	v := dom.Get("vcpu")
	if s.MaxVCPUs, err = intOf("<vcpu>", v.Content()); err != nil {
		return err
	}
	s.VCPUs = s.MaxVCPUs
	if now := v.Attr("current"); now != "" {
		s.VCPUs, err = intOf("<vcpu current>", now)
	}
	return err
}

// modes are the CPU modes whose model is the host's, by the name that QEMU has for it.
var modes = table{{"host-passthrough", "host"}, {"maximum", "max"}, {"host-model", "host"}}

func readCPU(dom *Node, s *model.Shape) error {
	cpu := dom.Get("cpu")
	if cpu == nil {
		s.CPU.Model = "qemu64" // QEMU's default, which libvirt leaves out for TCG
		return nil
	}
	s.CPU.Model = modes.value(cpu.Attr("mode"))
	if m := cpu.Get("model").Content(); m != "" && (s.CPU.Model == "" || cpu.Attr("mode") == "host-model") {
		s.CPU.Model = m
	}
	if s.CPU.Model == "" {
		return fmt.Errorf("<cpu mode=%q>: no model", cpu.Attr("mode"))
	}
	s.CPU.Features = Features(cpu)
	return nil
}

// Flags are all flags of a CPU: those that its model stands for, with the named ones (see ShapeOf) added or taken away.
func Flags(base, named []string) []string {
	set := slices.Clone(base)
	for _, f := range named {
		sign, flag := f[:1], f[1:]
		set = slices.DeleteFunc(set, func(s string) bool { return s == flag })
		if sign == "+" {
			set = append(set, flag)
		}
	}
	slices.Sort(set)
	return slices.Compact(set)
}

func readMemory(dom *Node, s *model.Shape) (err error) {
	total, err := bytesOf(dom.Get("memory"))
	if err != nil {
		return err
	}
	limit := dom.Get("maxMemory")
	if s.Memory.Max, err = bytesOf(limit); err != nil {
		return err
	}
	if n := limit.Attr("slots"); n != "" {
		if s.Memory.Slots, err = intOf("<maxMemory slots>", n); err != nil {
			return err
		}
	}
	for _, m := range dom.Get("devices").All("memory") {
		size, err := readModule(m, s)
		if err != nil {
			return err
		}
		if size > total {
			return fmt.Errorf("<memory>: modules have more than the %d bytes of it all", total)
		}
		total -= size // <memory> counts what is plugged, too
	}
	s.Memory.Boot = total
	return nil
}

// readModule reads plugged memory, and returns how much of <memory> it is.
func readModule(m *Node, s *model.Shape) (uint64, error) {
	target := m.Get("target")
	size, err := bytesOf(target.Get("size"))
	if err != nil {
		return 0, err
	}
	switch m.Attr("model") {
	case "dimm":
		d := model.DIMM{ID: idOf(m), Size: size}
		a := m.Get("address")
		if d.Slot, err = intOf("<memory><address slot>", a.Attr("slot")); err != nil {
			return 0, err
		}
		if base := a.Attr("base"); base != "" {
			if d.Addr, err = strconv.ParseUint(base, 0, 64); err != nil {
				return 0, fmt.Errorf("<memory><address base>: %w", err)
			}
		}
		s.Memory.DIMMs = append(s.Memory.DIMMs, d)
	case "virtio-mem":
		v := model.VirtioMem{ID: idOf(m), Max: size}
		if v.Requested, err = bytesOf(target.Get("requested")); err != nil {
			return 0, err
		}
		if v.Block, err = bytesOf(target.Get("block")); err != nil {
			return 0, err
		}
		if v.Bus, v.Addr, err = pciOf(m, s.Machine); err != nil {
			return 0, err
		}
		s.Memory.VirtioMem = append(s.Memory.VirtioMem, v)
	default:
		return 0, fmt.Errorf("<memory model=%q>: only dimm and virtio-mem can move", m.Attr("model"))
	}
	return size, nil
}
