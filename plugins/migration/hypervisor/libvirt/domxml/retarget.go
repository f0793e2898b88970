package domxml

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// Retarget makes of a domain's XML that of its destination: now is what it is, then what it shall be started as there, and
// nets what segments are on the host of the destination. libvirt keeps a VM's hardware while it moves: only where disks
// and cards are connected can differ, and a difference elsewhere is refused with its name.
func Retarget(dom *Node, now, then model.Shape, nets Networks) (*Node, error) {
	if err := SameHardware(now, then); err != nil {
		return nil, err
	}
	out := clone(dom)
	devices := out.Get("devices")
	nics, disks := 0, 0
	for _, d := range devices.Elements() {
		switch {
		case d.Name == "interface" && nics < len(then.NICs):
			if err := nets.attach(d, then.NICs[nics].Network); err != nil {
				return nil, err
			}
			nics++
		case isDisk(d) && disks < len(then.Disks):
			if err := redirect(d, now.Disks[disks].Source, then.Disks[disks].Source); err != nil {
				return nil, err
			}
			disks++
		}
	}
	if nics != len(then.NICs) || disks != len(then.Disks) {
		return nil, fmt.Errorf("the domain has %d cards and %d disks, and the move is for %d and %d", nics, disks, len(then.NICs), len(then.Disks))
	}
	return out, nil
}

// redirect lets a disk read from elsewhere. Its errors stop the guest: at a volume that another host holds they are to be
// expected, and the guest must not see them (invariant M1).
func redirect(disk *Node, from, to model.Source) error {
	if say(from) != say(to) {
		kind, source, err := sourceOf(to)
		if err != nil {
			return err
		}
		disk.Set("type", kind)
		disk.Replace(disk.Get("source"), source)
	}
	if to.Volume != nil {
		driver := disk.Get("driver")
		driver.Set("error_policy", "stop")
		driver.Set("rerror_policy", "stop")
	}
	return nil
}

// SameHardware finds the first thing in which two shapes differ that libvirt cannot change on the way.
func SameHardware(now, then model.Shape) error {
	if len(now.NICs) == len(then.NICs) && len(now.Disks) == len(then.Disks) {
		now.NICs, now.Disks = slices.Clone(now.NICs), slices.Clone(now.Disks)
		for i := range now.NICs {
			now.NICs[i].Network = then.NICs[i].Network
		}
		for i := range now.Disks {
			now.Disks[i].Source = then.Disks[i].Source
		}
	}
	for _, f := range []struct {
		what      string
		now, then any
	}{
		{"name", now.VM, then.VM},
		{"UUID", now.UUID, then.UUID},
		{"board", now.Machine, then.Machine},
		{"accelerator", now.Accel, then.Accel},
		{"CPU", now.CPU, then.CPU},
		{"number of vCPUs", now.VCPUs, then.VCPUs},
		{"most vCPUs", now.MaxVCPUs, then.MaxVCPUs},
		{"memory", now.Memory, then.Memory},
		{"network cards", now.NICs, then.NICs},
		{"disks", now.Disks, then.Disks},
		{"other devices", now.Others, then.Others},
		{"boot", now.Boot, then.Boot},
	} {
		if a, b := say(f.now), say(f.then); a != b {
			return fmt.Errorf("the %s of %s: it is %s, and the move is for %s: libvirt keeps the hardware of a VM while it moves; change it before or after",
				f.what, now.VM, a, b)
		}
	}
	return nil
}

// say is a value in JSON. An empty list is one, however it came to be empty.
func say(v any) string {
	text, _ := json.Marshal(v) // plain data: cannot fail
	if s := string(text); s != "null" && s != "[]" {
		return s
	}
	return "none"
}

// clone copies an element as deep as it goes.
func clone(n *Node) *Node {
	c := &Node{Name: n.Name, Text: n.Text, Attrs: slices.Clone(n.Attrs)}
	for _, child := range n.Children {
		c.Children = append(c.Children, clone(child))
	}
	return c
}

// Reattach gives the definition of a domain that has arrived what its new host has: the segments of its cards and the sources
// of its disks. It changes nothing and returns false if the definition is of other hardware than the shape, since somebody
// has changed it for the next start.
func Reattach(def *Node, s model.Shape, nets Networks) bool {
	var nics, disks []*Node
	for _, d := range def.Get("devices").Elements() {
		switch {
		case d.Name == "interface":
			nics = append(nics, d)
		case isDisk(d):
			disks = append(disks, d)
		}
	}
	if len(nics) != len(s.NICs) || len(disks) != len(s.Disks) {
		return false
	}
	for i, d := range disks {
		was, err := readSource(d)
		if err != nil || redirect(d, was, s.Disks[i].Source) != nil {
			return false
		}
	}
	for i, n := range nics {
		if nets.attach(n, s.NICs[i].Network) != nil {
			return false
		}
	}
	return true
}
