package domxml

import "slices"

// Guests is what a host's capabilities say of guests of x86_64.
type Guests struct {
	Accels   []string // as in model.Host
	Machines []string // exact boards
	Kind     string   // the best type of domain: "kvm" or "qemu"
}

// GuestsOf reads the capabilities of a host.
func GuestsOf(caps *Node) (g Guests) {
	for _, guest := range caps.All("guest") {
		arch := guest.Get("arch")
		if arch.Attr("name") != "x86_64" || guest.Get("os_type").Content() != "hvm" {
			continue
		}
		for _, d := range arch.All("domain") {
			if accel := accels.value(d.Attr("type")); accel != "" && !slices.Contains(g.Accels, accel) {
				g.Accels = append(g.Accels, accel)
			}
			g.machines(d)
		}
		g.machines(arch)
	}
	slices.Sort(g.Accels)
	slices.Sort(g.Machines)
	g.Machines = slices.Compact(g.Machines)
	if g.Kind = "qemu"; slices.Contains(g.Accels, "kvm") {
		g.Kind = "kvm"
	}
	return g
}

// machines adds the boards below n, without aliases.
func (g *Guests) machines(n *Node) {
	for _, m := range n.All("machine") {
		if m.Attr("canonical") == "" {
			g.Machines = append(g.Machines, m.Content())
		}
	}
}

// UsableCPUs are the models that domain capabilities call usable.
func UsableCPUs(caps *Node) (names []string) {
	for _, mode := range caps.Get("cpu").All("mode") {
		if mode.Attr("name") != "custom" {
			continue
		}
		for _, m := range mode.All("model") {
			if m.Attr("usable") == "yes" {
				names = append(names, m.Content())
			}
		}
	}
	return names
}

// HostModel is the model that comes closest to the host's CPU, and what is added to it and taken away.
func HostModel(caps *Node) (name string, named []string) {
	for _, mode := range caps.Get("cpu").All("mode") {
		if mode.Attr("name") == "host-model" {
			return mode.Get("model").Content(), Features(mode)
		}
	}
	return "", nil
}

// Features are the flags named below a CPU, with "+" or "-" before them.
func Features(cpu *Node) (named []string) {
	for _, f := range cpu.All("feature") {
		sign := "+"
		if p := f.Attr("policy"); p == "disable" || p == "forbid" {
			sign = "-"
		}
		named = append(named, sign+f.Attr("name"))
	}
	return named
}

// DiskTargets are the names of the disks of a Shape at libvirt, in the same order.
func DiskTargets(dom *Node) (names []string) {
	for _, d := range dom.Get("devices").All("disk") {
		if isDisk(d) {
			names = append(names, d.Get("target").Attr("dev"))
		}
	}
	return names
}
