package domxml

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Build writes the XML of a new VM. What has no address gets one from libvirt, and what a Shape does not say is libvirt's
// default.
func Build(s model.Shape, nets Networks) (*Node, error) {
	kind := accels.key(s.Accel)
	if kind == "" {
		return nil, fmt.Errorf("build %s: accelerator %q is neither kvm nor tcg", s.VM, s.Accel)
	}
	os := New("os").With(New("type", "arch", "x86_64", "machine", s.Machine).Say("hvm"))
	for _, e := range []struct{ name, text string }{{"loader", s.Boot.Firmware}, {"kernel", s.Boot.Kernel}, {"initrd", s.Boot.Initrd}, {"cmdline", s.Boot.Append}} {
		if e.text != "" {
			os.With(New(e.name).Say(e.text))
		}
	}
	cpu, err := buildCPU(s)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", s.VM, err)
	}
	dom := New("domain", "type", kind).With(New("name").Say(s.VM))
	if s.UUID != "" {
		dom.With(New("uuid").Say(s.UUID))
	}
	if s.Memory.Max > 0 {
		dom.With(sized("maxMemory", s.Memory.Max, "slots", strconv.Itoa(s.Memory.Slots)))
	}
	plugged := uint64(0)
	for _, d := range s.Memory.DIMMs {
		plugged += d.Size
	}
	for _, v := range s.Memory.VirtioMem {
		plugged += v.Max
	}
	dom.With(sized("memory", s.Memory.Boot+plugged), New("vcpu", "current", strconv.Itoa(s.VCPUs)).Say(strconv.Itoa(s.MaxVCPUs)),
		os, New("features").With(New("acpi"), New("apic")), cpu)
	devices, err := buildDevices(s, nets)
	if err != nil {
		return nil, fmt.Errorf("build %s: %w", s.VM, err)
	}
	return dom.With(devices), nil
}

// buildCPU also gives the guest a NUMA cell, without which libvirt plugs no memory.
func buildCPU(s model.Shape) (*Node, error) {
	var cpu *Node
	switch s.CPU.Model {
	case "":
		return nil, fmt.Errorf("no CPU model")
	case "host":
		cpu = New("cpu", "mode", "host-passthrough")
	case "max":
		cpu = New("cpu", "mode", "maximum")
	default:
		cpu = New("cpu", "mode", "custom", "match", "exact").With(New("model", "fallback", "forbid").Say(s.CPU.Model))
	}
	for _, f := range s.CPU.Features {
		if name, ok := strings.CutPrefix(f, "+"); ok {
			cpu.With(New("feature", "policy", "require", "name", name))
		} else if name, ok := strings.CutPrefix(f, "-"); ok {
			cpu.With(New("feature", "policy", "disable", "name", name))
		}
	}
	if s.Memory.Max > 0 {
		cells := "0"
		if s.MaxVCPUs > 1 {
			cells += "-" + strconv.Itoa(s.MaxVCPUs-1)
		}
		cpu.With(New("numa").With(New("cell", "id", "0", "cpus", cells, "memory", strconv.FormatUint(s.Memory.Boot>>10, 10), "unit", "KiB")))
	}
	return cpu, nil
}

func buildDevices(s model.Shape, nets Networks) (*Node, error) {
	devices := New("devices")
	for i, d := range s.Disks {
		n, err := Disk(d, i)
		if err != nil {
			return nil, err
		}
		devices.With(n)
	}
	for _, nic := range s.NICs {
		n, err := NIC(nic, nets)
		if err != nil {
			return nil, err
		}
		devices.With(n)
	}
	for _, d := range s.Memory.DIMMs {
		devices.With(DIMM(d))
	}
	for _, v := range s.Memory.VirtioMem {
		n, err := VirtioMem(v)
		if err != nil {
			return nil, err
		}
		devices.With(n)
	}
	for _, o := range s.Others {
		n, err := buildOther(o)
		if err != nil {
			return nil, err
		}
		devices.With(n)
	}
	// libvirt adds a balloon to whoever does not refuse it, and a Shape that has one says so.
	if len(devices.All("memballoon")) == 0 {
		devices.With(New("memballoon", "model", "none"))
	}
	return devices, nil
}

// NIC is the element of a network card.
func NIC(nic model.NIC, nets Networks) (*Node, error) {
	kind := orElse(nicModels.key(nic.Model), nic.Model)
	n := New("interface").With(New("mac", "address", nic.MAC))
	if err := nets.attach(n, nic.Network); err != nil {
		return nil, err
	}
	address, err := pciAddress(nic.Bus, nic.Addr)
	if err != nil {
		return nil, fmt.Errorf("card %s: %w", nic.ID, err)
	}
	return n.With(New("model", "type", kind), aliasFor(nic.ID), address), nil
}

// Disk is the element of a disk, the n-th of its VM.
func Disk(d model.Disk, n int) (*Node, error) {
	bus, prefix := diskModels.key(d.Model), "sd"
	switch bus {
	case "":
		return nil, fmt.Errorf("disk %s: libvirt has no %s", d.ID, d.Model)
	case "virtio":
		prefix = "vd"
	}
	kind, source, err := sourceOf(d.Source)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.ID, err)
	}
	address, err := pciAddress(d.Bus, d.Addr)
	if err != nil {
		return nil, fmt.Errorf("disk %s: %w", d.ID, err)
	}
	e := New("disk", "type", kind, "device", "disk").With(
		New("driver", "name", "qemu", "type", "raw", "error_policy", "stop", "rerror_policy", "stop"),
		source, New("target", "dev", prefix+string(rune('a'+n%26)), "bus", bus))
	if d.Serial != "" {
		e.With(New("serial").Say(d.Serial))
	}
	return e.With(aliasFor(d.ID), address), nil
}

// DIMM is the element of a memory module.
func DIMM(d model.DIMM) *Node {
	address := New("address", "type", "dimm", "slot", strconv.Itoa(d.Slot))
	if d.Addr > 0 {
		address.Set("base", fmt.Sprintf("%#x", d.Addr))
	}
	return New("memory", "model", "dimm").With(New("target").With(sized("size", d.Size), New("node").Say("0")), aliasFor(d.ID), address)
}

// VirtioMem is the element of memory whose size changes while the guest runs.
func VirtioMem(v model.VirtioMem) (*Node, error) {
	address, err := pciAddress(v.Bus, v.Addr)
	if err != nil {
		return nil, fmt.Errorf("memory %s: %w", v.ID, err)
	}
	block := v.Block
	if block == 0 {
		block = 2 << 20
	}
	return New("memory", "model", "virtio-mem").With(
		New("target").With(sized("size", v.Max), New("node").Say("0"), sized("block", block), sized("requested", v.Requested)),
		aliasFor(v.ID), address), nil
}

// buildOther writes the few devices that are told apart by their driver alone.
func buildOther(o model.Device) (*Node, error) {
	driver, rest, _ := strings.Cut(o.Args, ",")
	options := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(part, "=")
		options[key] = value
	}
	var n *Node
	switch driver {
	case "virtserialport":
		n = New("channel", "type", "unix").With(New("target", "type", "virtio", "name", options["name"]))
	case "virtio-serial-pci":
		n = New("controller", "type", "virtio-serial")
	case "pcie-root-port":
		n = New("controller", "type", "pci", "model", "pcie-root-port")
	case "virtio-scsi-pci":
		n = New("controller", "type", "scsi", "model", "virtio-scsi")
	case "virtio-rng-pci":
		n = New("rng", "model", "virtio").With(New("backend", "model", "random").Say("/dev/urandom"))
	case "virtio-balloon-pci":
		n = New("memballoon", "model", "virtio")
	case "isa-serial":
		n = New("serial", "type", "pty")
	default:
		return nil, fmt.Errorf("device %s: a %s can be moved, but not made here: define the VM with libvirt's own tools", o.ID, driver)
	}
	address, err := pciAddress(options["bus"], options["addr"])
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", o.ID, err)
	}
	if n.Name == "controller" {
		return n.With(address), nil // libvirt names buses after its own numbers
	}
	return n.With(aliasFor(o.ID), address), nil
}
