package core

import (
	"context"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/clock"
	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/core/network"
	"github.com/ratchetos/ratchet/core/version"
	"github.com/ratchetos/ratchet/hw"
)

// bringUpNetwork starts the management network, in place of the one before, and, when that is there, the clock.
func (a *appliance) bringUpNetwork(ctx context.Context, c *config.Config) {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	m := c.Network.Management
	nc := network.Config{
		NIC: m.NIC, NoDHCP: !m.DHCP, Addresses: m.Addresses, Gateway: m.Gateway, DNS: m.DNS, Search: m.Search,
		Hostname: c.Hostname, Claimed: a.claimedNICs(ctx, c), Log: a.log,
	}
	devices, err := a.devices.Devices()
	if err != nil {
		a.complain("list hardware", err)
		return
	}
	a.mu.Lock()
	old := a.network
	a.mu.Unlock()
	up, err := network.Replace(ctx, old, nc, releasedOnly(devices))
	if err != nil {
		a.complain("management network", err)
	}
	a.mu.Lock()
	a.network = up
	a.mu.Unlock()
	if old != nil && old.Status().NIC != up.Status().NIC {
		a.devices.Unreserve(old.Status().NIC, inventory.Management)
	}
	for _, d := range devices {
		if d.ID == up.Status().NIC {
			if err := a.devices.Reserve(d.Device, inventory.Management); err != nil {
				a.complain("management network", err)
			}
		}
	}
	a.startClock(ctx, c, up)
}

// startClock follows the servers of the configuration and those that DHCP names.
func (a *appliance) startClock(ctx context.Context, c *config.Config, up *network.Management) {
	a.mu.Lock()
	old := a.clock
	a.mu.Unlock()
	if old != nil {
		old.Close()
	}
	offered := func() (servers []string) {
		for _, s := range up.Status().NTP {
			servers = append(servers, s.String())
		}
		return servers
	}
	started := clock.Start(ctx, clock.Config{Servers: c.Time.NTP, More: offered, Floor: version.Time(), Network: up.Ready(), Log: a.log})
	a.mu.Lock()
	a.clock = started
	a.mu.Unlock()
}

// releasedOnly leaves out what the verdict keeps back.
func releasedOnly(devices []inventory.Device) []hw.Device {
	var out []hw.Device
	for _, d := range devices {
		if d.Verdict.Decision == verdict.Released {
			out = append(out, d.Device)
		}
	}
	return out
}
