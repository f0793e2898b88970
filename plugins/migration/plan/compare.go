package plan

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Compare is the last check before a byte is sent: it holds what a destination was started as against what crosses
// (Plan.During), and returns every difference that the guest would meet. The two must agree in all but the CPU, which may
// have more flags at the destination. QEMU itself accepts half of what is refused here, and finds out too late or never.
func Compare(crossing, destination model.Shape) []Refusal {
	c := comparison{}
	c.field("version", "version of the record", crossing.Version, destination.Version)
	c.field("vm", "VM", crossing.VM, destination.VM)
	c.field("uuid", "UUID", crossing.UUID, destination.UUID)
	c.field("machine", "board", crossing.Machine, destination.Machine)
	c.field("accel", "accelerator", crossing.Accel, destination.Accel)
	c.field("vcpus", "number of vCPUs", crossing.VCPUs, destination.VCPUs)
	c.field("max-vcpus", "ceiling of vCPUs", crossing.MaxVCPUs, destination.MaxVCPUs)
	c.cpu(crossing.CPU, destination.CPU)

	a, b := crossing.Memory, destination.Memory
	c.field("memory", "memory at the start", a.Boot, b.Boot)
	c.field("max-memory", "ceiling of memory", a.Max, b.Max)
	c.field("slots", "number of memory slots", a.Slots, b.Slots)
	list(&c, "memory module", a.DIMMs, b.DIMMs, func(d model.DIMM) string { return d.ID }, func(x, y model.DIMM) bool { return x == y })
	list(&c, "virtio-mem device", a.VirtioMem, b.VirtioMem, func(v model.VirtioMem) string { return v.ID }, func(x, y model.VirtioMem) bool { return x == y })
	list(&c, "network card", crossing.NICs, destination.NICs, func(n model.NIC) string { return n.ID }, func(x, y model.NIC) bool { return x == y })
	list(&c, "disk", crossing.Disks, destination.Disks, func(d model.Disk) string { return d.ID }, sameDisk)
	list(&c, "device", crossing.Others, destination.Others, func(d model.Device) string { return d.ID }, func(x, y model.Device) bool { return x == y })
	c.field("boot", "firmware", crossing.Boot.Firmware, destination.Boot.Firmware)
	return c.refusals
}

// sameDisk lets the path of a local disk differ: each host keeps images where it likes.
func sameDisk(x, y model.Disk) bool {
	vx, vy := x.Source.Volume, y.Source.Volume
	if (vx == nil) != (vy == nil) || vx != nil && vx.Name != vy.Name {
		return false
	}
	x.Source, y.Source = model.Source{}, model.Source{}
	return x == y
}

type comparison struct{ refusals []Refusal }

func (c *comparison) differs(code, format string, args ...any) {
	c.refusals = append(c.refusals, Refusal{
		Code: "differs-" + code, What: fmt.Sprintf(format, args...), Why: "the guest would meet another board than the one it runs on",
		Do: "discard the destination and plan the move again; if it stays so, the host's agent does not do what it is told",
	})
}

func (c *comparison) field(code, what string, crossing, destination any) {
	if crossing != destination {
		c.differs(code, "the %s is %v at the source and %v at the destination", what, crossing, destination)
	}
}

func (c *comparison) cpu(crossing, destination model.CPU) {
	c.field("cpu-model", "CPU model", crossing.Model, destination.Model)
	for _, flag := range missing(crossing.Features, destination.Features) {
		c.differs("cpu-flags", "the CPU at the destination lacks %s", flag)
	}
}

// list compares devices by their IDs.
func list[T any](c *comparison, what string, crossing, destination []T, id func(T) string, same func(x, y T) bool) {
	for _, x := range crossing {
		i := slices.IndexFunc(destination, func(y T) bool { return id(y) == id(x) })
		switch {
		case i < 0:
			c.differs("missing", "the destination has no %s %s", what, id(x))
		case !same(x, destination[i]):
			c.differs("device", "the %s %s is %s at the source and %s at the destination", what, id(x), inJSON(x), inJSON(destination[i]))
		}
	}
	for _, y := range destination {
		if !slices.ContainsFunc(crossing, func(x T) bool { return id(x) == id(y) }) {
			c.differs("extra", "the destination has a %s %s that the source does not have", what, id(y))
		}
	}
}

func inJSON(device any) string {
	text, _ := json.Marshal(device) // plain data: cannot fail
	return string(text)
}
