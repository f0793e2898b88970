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

// placeOf writes a place as all are compared: with the name of the bus that QEMU takes when none is given, and the slot
// without its many spellings.
func placeOf(s model.Shape, id, bus, addr string) place {
	if bus == "" && addr != "" {
		bus = rootBus(s)
	}
	if n, ok := slot(addr); ok && !onController(s, id) {
		_, function, _ := strings.Cut(addr, ".")
		addr = hex(n)
		if function = strings.TrimPrefix(function, "0x"); function != "" && function != "0" {
			addr += "." + function
		}
	}
	return place{id, bus, addr}
}

func rootBus(s model.Shape) string {
	if q35(s) {
		return "pcie.0"
	}
	return "pci.0"
}

func q35(s model.Shape) bool { return strings.Contains(s.Machine, "q35") }

func hex(n int) string { return "0x" + strconv.FormatInt(int64(n), 16) }

// onController tells a disk that has a number on its controller in place of a PCI slot.
func onController(s model.Shape, id string) bool {
	return slices.ContainsFunc(s.Disks, func(d model.Disk) bool {
		return d.ID == id && (strings.HasPrefix(d.Model, "scsi-") || strings.HasPrefix(d.Model, "ide-"))
	})
}

// places are those of all devices that a guest finds by their address.
func places(s model.Shape) []place {
	var list []place
	for _, n := range s.NICs {
		list = append(list, placeOf(s, n.ID, n.Bus, n.Addr))
	}
	for _, d := range s.Disks {
		list = append(list, placeOf(s, d.ID, d.Bus, d.Addr))
	}
	for _, v := range s.Memory.VirtioMem {
		list = append(list, placeOf(s, v.ID, v.Bus, v.Addr))
	}
	for _, o := range s.Others {
		list = append(list, placeOf(s, o.ID, option(o.Args, "bus"), option(o.Args, "addr")))
	}
	return list
}

func taken(s model.Shape) map[place]bool {
	set := map[place]bool{}
	for _, p := range places(s) {
		set[place{bus: p.bus, addr: p.addr}] = true
	}
	return set
}

// slot is the number in a PCI address: "0x3", "3", "0x3.0x1".
func slot(addr string) (int, bool) {
	number, _, _ := strings.Cut(addr, ".")
	n, err := strconv.ParseInt(strings.TrimPrefix(number, "0x"), 16, 32)
	return int(n), err == nil && n >= 0 && n < 32
}

// Slots 0 and 1 of the i440fx board hold its chipset, 2 the display that most VMs have.
const firstSlot, lastSlot = 3, 0x1f

// freePlace finds room for one more PCI device beside one on a bus: another slot, or on q35, whose root bus takes nothing
// while it runs, an empty root port.
func freePlace(s model.Shape, bus string) (string, string, bool) {
	used := taken(s)
	if q35(s) {
		for _, o := range s.Others {
			if driver(o.Args) == "pcie-root-port" && o.ID != "" && !used[place{bus: o.ID, addr: "0x0"}] {
				return o.ID, "0x0", true
			}
		}
		return "", "", false
	}
	for n := firstSlot; n <= lastSlot; n++ {
		if p := placeOf(s, "", bus, hex(n)); !used[place{bus: p.bus, addr: p.addr}] {
			return bus, hex(n), true
		}
	}
	return "", "", false
}

// maxTarget is the last SCSI target that guests look for by themselves.
const maxTarget = 255

// freeTarget finds a number for one more disk on a SCSI controller of the VM.
func freeTarget(s model.Shape) (bus, addr string, ok bool) {
	used := taken(s)
	for _, o := range s.Others {
		if d := driver(o.Args); o.ID == "" || d != "virtio-scsi-pci" && d != "virtio-scsi-pci-non-transitional" {
			continue
		}
		bus := o.ID + ".0"
		for n := range maxTarget + 1 {
			short, long := strconv.Itoa(n), strconv.Itoa(n)+":0"
			if !used[place{bus: bus, addr: short}] && !used[place{bus: bus, addr: long}] {
				return bus, long, true
			}
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
