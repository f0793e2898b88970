package plan

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// VCPUDevice is the ID of the n-th plugged vCPU. The first one of a VM, number 0, is part of the board and has none.
func VCPUDevice(n int) string { return "cpu" + strconv.Itoa(n) }

// clone copies a shape so far that changing the copy leaves the original alone. Volumes are shared: nobody changes one.
func clone(s model.Shape) model.Shape {
	s.CPU.Features = slices.Clone(s.CPU.Features)
	s.Memory.DIMMs = slices.Clone(s.Memory.DIMMs)
	s.Memory.VirtioMem = slices.Clone(s.Memory.VirtioMem)
	s.NICs = slices.Clone(s.NICs)
	s.Disks = slices.Clone(s.Disks)
	s.Others = slices.Clone(s.Others)
	return s
}

// normalise brings modules into the order of their slots, in which Apply keeps them.
func normalise(s model.Shape) model.Shape {
	s = clone(s)
	slices.SortFunc(s.Memory.DIMMs, func(a, b model.DIMM) int { return cmp.Compare(a.Slot, b.Slot) })
	return s
}

// driver is the device model of a -device value.
func driver(args string) string {
	model, _, _ := strings.Cut(args, ",")
	return strings.TrimPrefix(model, "driver=")
}

// option is the value of a key in a -device value.
func option(args, key string) string {
	for part := range strings.SplitSeq(args, ",") {
		if k, v, ok := strings.Cut(part, "="); ok && k == key {
			return v
		}
	}
	return ""
}

// place is where a device is plugged.
type place struct{ id, bus, addr string }

// places are those of all devices that a guest finds by their address.
func places(s model.Shape) []place {
	var list []place
	for _, n := range s.NICs {
		list = append(list, place{n.ID, n.Bus, n.Addr})
	}
	for _, d := range s.Disks {
		list = append(list, place{d.ID, d.Bus, d.Addr})
	}
	for _, v := range s.Memory.VirtioMem {
		list = append(list, place{v.ID, v.Bus, v.Addr})
	}
	for _, o := range s.Others {
		list = append(list, place{o.ID, option(o.Args, "bus"), option(o.Args, "addr")})
	}
	return list
}

// slot is the number in a PCI address: "0x3", "3", "0x3.0x1".
func slot(addr string) (int, bool) {
	number, _, _ := strings.Cut(addr, ".")
	n, err := strconv.ParseInt(strings.TrimPrefix(number, "0x"), 16, 32)
	return int(n), err == nil && n >= 0 && n < 32
}

// Slots 0 and 1 of the i440fx board hold its chipset, 2 the display that most VMs have; q35 has its chipset at the end.
const firstSlot, lastSlot = 3, 0x1e

// freePlace finds room for one more PCI device beside old, of the kind of place that old has: another slot on a bus whose
// slots can be plugged, or an empty root port. A device on the root bus of q35 is soldered in, so to say.
func freePlace(s model.Shape, old place) (bus, addr string, ok bool) {
	taken := map[place]bool{}
	for _, p := range places(s) {
		if n, valid := slot(p.addr); valid {
			taken[place{bus: p.bus, addr: strconv.Itoa(n)}] = true
		}
	}
	if strings.Contains(s.Machine, "q35") {
		for _, o := range s.Others {
			if driver(o.Args) == "pcie-root-port" && o.ID != "" && !taken[place{bus: o.ID, addr: "0"}] {
				return o.ID, "0x0", true
			}
		}
		return "", "", false
	}
	for n := firstSlot; n <= lastSlot; n++ {
		if !taken[place{bus: old.bus, addr: strconv.Itoa(n)}] {
			return old.bus, "0x" + strconv.FormatInt(int64(n), 16), true
		}
	}
	return "", "", false
}

// nextID is a name for the device that takes the place of id: "n0", "n0-1", "n0-2", back at "n0-1" after that one is free.
func nextID(s model.Shape, id string) string {
	base := id
	if at := strings.LastIndexByte(id, '-'); at > 0 {
		if _, err := strconv.Atoi(id[at+1:]); err == nil {
			base = id[:at]
		}
	}
	taken := map[string]bool{}
	for _, p := range places(s) {
		taken[p.id] = true
	}
	for n := 1; ; n++ {
		if next := base + "-" + strconv.Itoa(n); !taken[next] {
			return next
		}
	}
}
