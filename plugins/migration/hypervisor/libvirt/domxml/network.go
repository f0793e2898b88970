package domxml

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Networks says what a segment is on a host: its name, as in model.NIC, to "network:NAME" (a network of libvirt),
// "bridge:NAME" or "user" (QEMU's own, for trials). A segment that is not in it is the network of libvirt of that name, or,
// if it is spelled like a value, itself.
type Networks map[string]string

// Check finds values that mean nothing.
func (n Networks) Check() error {
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if _, _, err := attachment(n[name]); err != nil {
			return fmt.Errorf("network %s: %w", name, err)
		}
	}
	return nil
}

// attachment splits a value of Networks.
func attachment(value string) (kind, name string, err error) {
	kind, name, _ = strings.Cut(value, ":")
	switch {
	case kind == "user" && name == "", (kind == "network" || kind == "bridge") && name != "":
		return kind, name, nil
	}
	return "", "", fmt.Errorf("%q is none of network:NAME, bridge:NAME and user", value)
}

// name is the segment that an interface of this host is on.
func (n Networks) name(nic *Node) (string, error) {
	kind, source := nic.Attr("type"), nic.Get("source")
	value := kind
	switch kind {
	case "network":
		value += ":" + source.Attr("network")
	case "bridge":
		value += ":" + source.Attr("bridge")
	case "user":
	default:
		return "", fmt.Errorf("<interface type=%q>: only types network, bridge and user can move", kind)
	}
	for _, segment := range slices.Sorted(maps.Keys(n)) {
		if n[segment] == value {
			return segment, nil
		}
	}
	return strings.TrimPrefix(value, "network:"), nil
}

// attach connects an interface to a segment, and drops what libvirt knew of the old one.
func (n Networks) attach(nic *Node, segment string) error {
	value, ok := n[segment]
	if !ok {
		value = segment
		if _, _, err := attachment(segment); err != nil {
			value = "network:" + segment
		}
	}
	kind, name, err := attachment(value)
	if err != nil {
		return fmt.Errorf("network %s: %w", segment, err)
	}
	var source *Node
	if kind != "user" {
		source = New("source", kind, name)
	}
	nic.Set("type", kind)
	kept := nic.Children[:0:0]
	for _, c := range nic.Children {
		// The tap device is named by the host, and a port of the old network is not one of the new.
		if c.Name != "source" && c.Name != "target" && c.Name != "virtualport" && c.Name != "actual" {
			kept = append(kept, c)
		}
	}
	nic.Children = kept
	nic.With(source)
	return nil
}
