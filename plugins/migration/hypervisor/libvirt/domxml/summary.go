package domxml

import "strings"

// Overview is what is shown of any domain, also of one that cannot move.
type Overview struct {
	VCPUs, MaxVCPUs int
	Memory          uint64
	Devices         []Item
}

// Item is a device in an Overview.
type Item struct{ Element, ID, Model, Backing string }

// Summary reads what can be read of a domain. What makes no sense is left empty.
func Summary(dom *Node) (o Overview) {
	o.MaxVCPUs, _ = intOf("", dom.Get("vcpu").Content())
	o.VCPUs = o.MaxVCPUs
	if now, err := intOf("", dom.Get("vcpu").Attr("current")); err == nil {
		o.VCPUs = now
	}
	o.Memory, _ = bytesOf(dom.Get("memory"))
	for _, d := range dom.Get("devices").Elements() {
		item := Item{Element: d.Name, ID: idOf(d), Model: modelOf(d)}
		if item.Model == "" {
			continue // part of the board
		}
		if d.Name == "disk" {
			source := d.Get("source")
			item.Backing = source.Attr("file") + source.Attr("dev") + source.Attr("name")
		}
		o.Devices = append(o.Devices, item)
	}
	return o
}

// modelOf is the name of a device, by QEMU where it is known.
func modelOf(d *Node) string {
	switch d.Name {
	case "interface":
		name := d.Get("model").Attr("type")
		return orElse(nicModels.value(name), name)
	case "disk":
		if bus := d.Get("target").Attr("bus"); isDisk(d) {
			return orElse(diskModels.value(bus), bus)
		}
	case "memory":
		return d.Attr("model")
	case "emulator":
		return ""
	}
	if driver, ok := driverOf(d); ok {
		return driver
	}
	return strings.TrimSpace(d.Name + " " + which(d))
}
