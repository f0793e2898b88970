package inventory

import (
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// Judge replaces the verdict on a device for the rest of this run.
func (inv *Inventory) Judge(id string, v verdict.Verdict) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	x := verdict.Device{ID: id, Verdict: v}
	if before := inv.given(id, id); before != nil {
		x.Place, x.Kind = before.Place, before.Kind
	}
	for _, d := range inv.found {
		if d.ID == id {
			x.Place, x.Kind = d.Place, string(d.Kind)
		}
	}
	inv.judged[id] = x
	inv.scanned = time.Time{} // names depend on verdicts
}

// given is the verdict on the device of an id or at a place, nil when there is none. The caller holds mu.
func (inv *Inventory) given(id, place string) *verdict.Device {
	if v, ok := inv.judged[id]; ok {
		return &v
	}
	if inv.report == nil {
		return nil
	}
	for _, v := range inv.report.Devices {
		if v.ID == id || v.ID == place {
			return &v
		}
	}
	return nil
}

// all are the verdicts on devices, those given while the box runs first. The caller holds mu.
func (inv *Inventory) all() []verdict.Device {
	if inv.report == nil {
		return nil
	}
	var out []verdict.Device
	for _, v := range inv.judged {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b verdict.Device) int { return strings.Compare(a.ID, b.ID) })
	for _, v := range inv.report.Devices {
		if _, again := inv.judged[v.ID]; !again {
			out = append(out, v)
		}
	}
	return out
}

// named calls functions without a driver by the names of the devices that a verdict keeps them for, and
// adds the devices that are missing: an isolated box has nothing but places otherwise. The caller holds mu.
func (inv *Inventory) named(found []hw.Device) []hw.Device {
	has := func(id string) bool { return slices.ContainsFunc(found, func(d hw.Device) bool { return d.ID == id }) }
	var out []hw.Device
	for _, d := range found {
		var behind []hw.Device
		for _, v := range inv.all() {
			if d.Driver != "" || d.ID != d.Place || function(v.Place) != d.Place || v.Code == missing || has(v.ID) {
				continue
			}
			x := d
			x.ID, x.Place = v.ID, v.Place
			if v.Kind != "" {
				x.Kind = hw.Kind(v.Kind)
			}
			behind = append(behind, x)
		}
		if len(behind) == 0 {
			behind = []hw.Device{d}
		}
		out = append(out, behind...)
	}
	for _, v := range inv.all() {
		if v.Code == missing && !has(v.ID) {
			out = append(out, hw.Device{ID: v.ID, Place: v.Place, Kind: hw.Kind(v.Kind), Why: v.Reason})
		}
	}
	return out
}

// missing is the code of devices that were admitted and are not there.
const missing = "missing"

// function is the place without the position behind it.
func function(place string) string {
	f, _, _ := strings.Cut(place, "/")
	return f
}

// Pulled notes that a device is gone, with the verdict that it has from now on if it had been admitted.
// It returns who had it, unless that is a plugin: a plugin's lease ends with what the host holds for it.
func (inv *Inventory) Pulled(d hw.Device, v verdict.Verdict) (owner string) {
	inv.mu.Lock()
	if l := inv.leases[d.ID]; l != nil {
		owner = l.owner
		delete(inv.leases, d.ID)
	}
	before := inv.given(d.ID, d.ID)
	admitted := before != nil && before.Decision != verdict.Quarantined && before.Code != "unsupported"
	if !admitted {
		delete(inv.judged, d.ID)
	}
	inv.scanned = time.Time{}
	inv.mu.Unlock()
	if admitted {
		inv.Judge(d.ID, v)
	}
	return owner
}
