package network

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/hw"
)

// Auto is the selector for the first supported NIC that nobody claims.
const Auto = "auto"

// Config says how the management network is to be. The zero value takes any free NIC and
// asks DHCP.
type Config struct {
	NIC       string // Auto, "", or a selector of package hw
	NoDHCP    bool   // only the addresses below and IPv6 router advertisements
	Addresses []netip.Prefix
	Gateway   []netip.Addr // at most one for each family
	DNS       []netip.Addr // before those of DHCP
	Search    []string
	Hostname  string // "" leaves it as it is

	// Claimed holds the ids of NICs that belong to plugins; Auto passes them over.
	Claimed []string
	// ResolvConf is where name servers are written, "" means /etc/resolv.conf.
	ResolvConf string
	Log        *slog.Logger // nil discards

	firstWait time.Duration // 0 means the constant; tests are less patient
}

// Check finds what can be wrong with a configuration without looking at hardware; all errors
// of one pass are joined.
func (c Config) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, a := range c.Addresses {
		if !a.IsValid() || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
			fail("address %s cannot be a host's", a)
		}
	}
	families := map[bool]bool{}
	for _, g := range c.Gateway {
		if families[g.Is4()] {
			fail("gateway %s: there is one of its family already", g)
		}
		families[g.Is4()] = true
		onLink := func(a netip.Prefix) bool { return a.Contains(g) }
		// An IPv6 gateway is as a rule link-local, which is on every link.
		if !g.IsLinkLocalUnicast() && !slices.ContainsFunc(c.Addresses, onLink) {
			fail("gateway %s is in none of the networks of the addresses", g)
		}
	}
	if len(c.Hostname) > 63 || strings.ContainsAny(c.Hostname, " \t\n/") {
		fail("host name %q: want at most 63 characters without blanks", c.Hostname)
	}
	return errors.Join(errs...)
}

// choose finds the NIC in an inventory.
func (c Config) choose(devices []hw.Device) (hw.Device, error) {
	nics := slices.DeleteFunc(slices.Clone(devices), func(d hw.Device) bool { return d.Kind != hw.NIC })
	if c.NIC != "" && c.NIC != Auto {
		d, err := hw.Resolve(nics, c.NIC)
		if err != nil {
			return hw.Device{}, fmt.Errorf("choose management NIC: %w", err)
		}
		if d.Node == "" {
			return hw.Device{}, fmt.Errorf("choose management NIC: %s has no driver bound", d.ID)
		}
		return d, nil
	}
	free := slices.DeleteFunc(nics, func(d hw.Device) bool {
		return !d.Supported || d.Node == "" || slices.Contains(c.Claimed, d.ID)
	})
	if len(free) == 0 {
		return hw.Device{}, errors.New("choose management NIC: no supported NIC is free; `ratchetctl hw list` shows who has them")
	}
	// By place: the order in which the machine's slots are wired, and what people count by.
	return slices.MinFunc(free, func(a, b hw.Device) int { return strings.Compare(a.Place, b.Place) }), nil
}
