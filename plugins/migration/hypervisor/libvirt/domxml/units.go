package domxml

import (
	"fmt"
	"strconv"
	"strings"
)

// unitOf is what a size is given in; libvirt prints KiB only, people write others. 0 is not known.
func unitOf(name string) uint64 {
	name = strings.ToLower(name)
	switch name {
	case "b", "bytes":
		return 1
	case "":
		return 1 << 10
	}
	power := strings.IndexByte("kmgt", name[0])
	if power < 0 {
		return 0
	}
	switch name[1:] {
	case "", "ib":
		return 1 << (10 * (power + 1))
	case "b":
		return []uint64{1e3, 1e6, 1e9, 1e12}[power]
	}
	return 0
}

// bytesOf reads an element that is a size, in bytes. An absent one is 0.
func bytesOf(n *Node) (uint64, error) {
	if n == nil {
		return 0, nil
	}
	unit := unitOf(n.Attr("unit"))
	v, err := strconv.ParseUint(n.Content(), 10, 64)
	if err != nil || unit == 0 || v > 1<<62/unit {
		return 0, fmt.Errorf("<%s>: %q %s is no size", n.Name, n.Content(), n.Attr("unit"))
	}
	return v * unit, nil
}

// sized is an element that is a size.
func sized(name string, bytes uint64, attrs ...string) *Node {
	return New(name, append(attrs, "unit", "KiB")...).Say(strconv.FormatUint(bytes>>10, 10))
}

// intOf reads a number that must be there, in decimal or with 0x.
func intOf(what, s string) (int, error) {
	v, err := strconv.ParseInt(s, 0, 32)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%s: %q is no number", what, s)
	}
	return int(v), nil
}

// userAlias begins the aliases that are not libvirt's own choice; libvirt keeps others for itself.
const userAlias = "ua-"

// idOf is a device's name in a Shape.
func idOf(n *Node) string { return strings.TrimPrefix(n.Get("alias").Attr("name"), userAlias) }

// aliasFor is the alias under which a device is found again by idOf. Names that libvirt gives itself stay.
func aliasFor(id string) *Node {
	if id == "" {
		return nil
	}
	return New("alias", "name", userAlias+id)
}

// pciOf reads a PCI address as a Shape has it: the bus by QEMU's name, and slot and function.
func pciOf(n *Node, machine string) (bus, addr string, err error) {
	a := n.Get("address")
	if a.Attr("type") != "pci" {
		return "", "", nil
	}
	number, err := intOf("PCI bus", a.Attr("bus"))
	if err != nil {
		return "", "", err
	}
	slot, err := intOf("PCI slot", a.Attr("slot"))
	if err != nil {
		return "", "", err
	}
	function, err := intOf("PCI function", a.Attr("function"))
	if err != nil {
		return "", "", err
	}
	addr = fmt.Sprintf("%#x", slot)
	if function > 0 {
		addr += fmt.Sprintf(".%#x", function)
	}
	if number == 0 && express(machine) {
		return "pcie.0", addr, nil
	}
	return "pci." + strconv.Itoa(number), addr, nil
}

// express tells boards whose root bus is PCI Express.
func express(machine string) bool { return strings.Contains(machine, "q35") }

// pciAddress is the inverse of pciOf. No address lets libvirt choose.
func pciAddress(bus, addr string) (*Node, error) {
	if addr == "" {
		return nil, nil
	}
	_, number, found := strings.Cut(bus, ".")
	if !found && bus != "" {
		return nil, fmt.Errorf("bus %q: libvirt has buses pci.N and pcie.0 only", bus)
	}
	if number == "" {
		number = "0"
	}
	n, err := intOf("PCI bus", number)
	if err != nil {
		return nil, err
	}
	slot, function, _ := strings.Cut(addr, ".")
	if function == "" {
		function = "0"
	}
	at := [2]int{}
	for i, s := range []string{slot, function} {
		v, err := strconv.ParseInt(strings.TrimPrefix(s, "0x"), 16, 16)
		if err != nil || v < 0 {
			return nil, fmt.Errorf("PCI address %q is not SLOT.FUNCTION", addr)
		}
		at[i] = int(v)
	}
	return New("address", "type", "pci", "domain", "0x0000", "bus", fmt.Sprintf("%#02x", n),
		"slot", fmt.Sprintf("%#02x", at[0]), "function", fmt.Sprintf("%#x", at[1])), nil
}
