package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/hw"
)

// claim is one thing that somebody wants for himself.
type claim struct {
	by       string // "plugin gateway"
	kind     pluginpb.Kind
	selector string
	path     string // where the document asks for it
	// id is the device's own name once it is resolved; two selectors can mean one device.
	id string
}

func (k *check) claim(c claim) {
	switch c.kind {
	case pluginpb.Kind_NIC, pluginpb.Kind_DISK, pluginpb.Kind_LISTENER:
		c.id = c.selector
		k.claims = append(k.claims, c)
	}
}

var kindOf = map[pluginpb.Kind]hw.Kind{pluginpb.Kind_NIC: hw.NIC, pluginpb.Kind_DISK: hw.Disk}

// resolve looks every wanted device up in the inventory.
func (k *check) resolve() {
	for i := range k.claims {
		c := &k.claims[i]
		kind, device := kindOf[c.kind]
		if !device {
			continue
		}
		if err := selectorForm(c.selector, kind); err != nil {
			k.errorf(c.path, "%v", err)
			continue
		}
		if k.checker.Devices == nil {
			continue
		}
		d, err := hw.Resolve(k.checker.Devices, c.selector)
		var missing *hw.NotFoundError
		switch {
		case errors.As(err, &missing):
			k.absent(c.path, "no %s %s on this box; %s", kind, c.selector, k.candidates(kind))
			continue
		case err != nil:
			k.absent(c.path, "%v", err)
			continue
		case d.Kind != kind:
			k.errorf(c.path, "%s is a %s, not a %s; %s", c.selector, d.Kind, kind, k.candidates(kind))
			continue
		case d.Boot:
			k.errorf(c.path, "%s is the disk this box boots from; %s", c.selector, k.candidates(kind))
			continue
		}
		c.id = d.ID
	}
}

// absent is errorf for hardware that cannot be had.
func (k *check) absent(path, format string, args ...any) {
	d := k.src.at(path, Error, format, args...)
	d.absent = true
	k.found = append(k.found, d)
}

// candidates names what could have been meant.
func (k *check) candidates(kind hw.Kind) string {
	var names []string
	for _, d := range k.checker.Devices {
		if d.Kind == kind && d.Supported && !d.Boot {
			name := d.ID
			if d.Model != "" {
				name += " (" + d.Model + ")"
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("it has no %s that could be used", kind)
	}
	return "there are: " + strings.Join(names, ", ")
}

// conflicts reports what two want, at both places.
func (k *check) conflicts() {
	for i := range k.claims {
		for j := range k.claims {
			a, b := k.claims[i], k.claims[j]
			if i == j || !collide(a, b) {
				continue
			}
			if a.by == b.by && a.selector == b.selector {
				continue // the plugin sees that itself
			}
			what := a.selector
			if a.id != a.selector {
				what += " (" + a.id + ")"
			}
			p := k.src.Locate(b.path)
			k.errorf(a.path, "%s is also wanted by %s at line %d, column %d; only one can have it", what, b.by, p.Line, p.Column)
		}
	}
}

func collide(a, b claim) bool {
	if a.kind != b.kind {
		return false
	}
	if a.kind != pluginpb.Kind_LISTENER {
		return strings.EqualFold(a.id, b.id)
	}
	hostA, portA, errA := splitListen(a.selector)
	hostB, portB, errB := splitListen(b.selector)
	if errA != nil || errB != nil {
		return a.selector == b.selector
	}
	anywhere := func(h netip.Addr) bool { return !h.IsValid() || h.IsUnspecified() }
	return portA == portB && (hostA == hostB || anywhere(hostA) || anywhere(hostB))
}

// managementLeft sees to it that "auto" finds a NIC after the plugins took theirs.
func (k *check) managementLeft(c *Config) {
	if c.Network.Management.NIC != "auto" || k.checker.Devices == nil {
		return
	}
	taken := map[string]bool{}
	for _, c := range k.claims {
		if c.kind == pluginpb.Kind_NIC {
			taken[c.id] = true
		}
	}
	for _, d := range k.checker.Devices {
		if d.Kind == hw.NIC && d.Supported && !taken[d.ID] {
			return
		}
	}
	k.found = append(k.found, k.src.at("network.management.nic", Warning,
		"no NIC is left for the management network; this box can only be administered at its console"))
}

// selectorForm checks what can be checked without the hardware.
func selectorForm(selector string, kind hw.Kind) error {
	if kind == hw.Disk && selector == hw.DataPartition {
		return nil
	}
	scheme, rest, ok := strings.Cut(selector, ":")
	known := []string{"serial", "nvme", "wwn", "pci", "file"}
	if kind == hw.NIC {
		known = []string{"mac", "pci"}
	}
	for _, s := range known {
		if ok && scheme == s && rest != "" {
			return nil
		}
	}
	also := ""
	if kind == hw.Disk {
		also = " or " + hw.DataPartition
	}
	return fmt.Errorf("%q does not name a %s; write %s:…%s (ratchetctl hw list shows them)", selector, kind, strings.Join(known, ":…, "), also)
}
