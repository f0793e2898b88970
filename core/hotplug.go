package core

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/hw"
)

// hotplug follows what is plugged and pulled while the box runs. One goroutine owns it.
type hotplug struct {
	*appliance
	seen []hw.Device         // last time; nil before the first look
	had  map[string][]string // by id of a device that was pulled: who had it
}

// watchDevices runs until ctx ends.
func (a *appliance) watchDevices(ctx context.Context) {
	h := &hotplug{appliance: a, had: map[string][]string{}}
	if err := a.system.Watch(ctx, func(n hw.News) { h.look(ctx, n) }); err != nil {
		a.complain("watch for devices", err)
	}
}

// look compares the hardware with what it was last time.
func (h *hotplug) look(ctx context.Context, news hw.News) {
	if news.Lost {
		h.late()
	}
	now, err := h.system.Inventory()
	if err != nil {
		h.complain("list hardware", err)
		return
	}
	before := h.seen
	h.seen = now
	if before == nil {
		h.late()
		return
	}
	gone, came := hw.Changes(before, now, news.Plugged)
	for _, d := range gone {
		h.pulled(d)
	}
	for _, d := range came {
		h.plugged(ctx, d)
	}
	if len(came) > 0 { // what was bound just now is no news the next time
		later, err := h.system.Inventory()
		if err != nil {
			h.complain("list hardware", err)
			return
		}
		h.seen = hw.Refresh(now, later, came)
	}
}

// late isolates what was plugged while nobody listened: after init listed the hardware and before Watch, or when events
// were lost.
func (h *hotplug) late() {
	h.devices.Rescan()
	devices, err := h.devices.Devices()
	if err != nil {
		h.complain("list hardware", err)
		return
	}
	for _, d := range strangers(devices) {
		if err := h.system.Isolate(d.Place); err != nil {
			h.complain("isolate "+d.ID, err)
		}
	}
}

// strangers are the devices that have a driver and that nobody has judged since they came.
func strangers(devices []inventory.Device) []inventory.Device {
	judged := func(d inventory.Device) bool { return d.Verdict.Code != "unknown" && d.Verdict.Code != "missing" }
	// An NVMe disk goes with its controller, unless that has another one which was judged.
	alone := func(d inventory.Device) bool {
		controller, _, _ := strings.Cut(d.Place, "/")
		return d.Bus == "nvme" && !slices.ContainsFunc(devices, func(o inventory.Device) bool {
			at, _, _ := strings.Cut(o.Place, "/")
			return at == controller && judged(o)
		})
	}
	return slices.DeleteFunc(slices.Clone(devices), func(d inventory.Device) bool {
		switch {
		case d.Driver == "" || judged(d):
			return true
		case strings.Contains(d.Place, "/") && !alone(d):
			return true // behind a controller that is in use, it just stays unused
		}
		return !d.Supported // a controller without disks has no verdict; a disk is judged when it comes
	})
}

// pulled reports a device that went and takes core's end of it from who had it. They run on.
func (h *hotplug) pulled(d hw.Device) {
	owners, err := h.host.Revoke(d.ID)
	if err != nil {
		h.log.Debug("take back a device that was pulled", "device", d.ID, "err", err) // a NIC cannot be moved back any more
	}
	if owner := h.devices.Pulled(d, verdict.Pulled(d.Place)); owner != "" {
		owners = append(owners, owner)
	}
	h.had[d.ID] = owners
	by := ""
	if len(owners) > 0 {
		by = "; " + strings.Join(owners, ", ") + " had it"
	}
	h.say("device %s was pulled from %s%s", d.ID, d.Place, by)
}

// plugged judges a device that came, and gives it back to who had it when it may be used again.
func (h *hotplug) plugged(ctx context.Context, d hw.Device) {
	if h.firmware == nil { // no counter: whatever was not there at boot stays unused
		h.say("device %s was plugged at %s and stays unused until the next boot", d.ID, d.Place)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	judged, err := h.firmware.Plugged(ctx, d)
	if err != nil {
		h.complain("judge the device plugged at "+d.Place, err)
	}
	for _, m := range judged {
		h.say("device %s was plugged at %s: %s: %s", m.Device.ID, m.Device.Place, strings.ToUpper(string(m.Verdict.Decision)), m.Verdict.Reason)
		if m.Verdict.Decision == verdict.Released {
			h.giveBack(ctx, m.Device.ID)
		} else if m.Verdict.Next != "" {
			h.say("next: %s", m.Verdict.Next)
		}
	}
}

// giveBack starts those anew that had a device when it was pulled: what they hold of it is dead.
func (h *hotplug) giveBack(ctx context.Context, id string) {
	owners := h.had[id]
	delete(h.had, id)
	for _, name := range owners {
		if name == inventory.Management {
			h.mu.Lock()
			c := h.config
			h.mu.Unlock()
			h.bringUpNetwork(context.WithoutCancel(ctx), c)
			continue
		}
		if !slices.Contains(h.builtin.Plugins, name) {
			continue
		}
		if err := h.host.Restart(ctx, name); err != nil {
			h.complain("give "+id+" back to "+name, err)
		}
	}
}
