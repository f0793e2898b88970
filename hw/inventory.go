package hw

import (
	"fmt"
	"slices"
)

// Inventory lists all NICs and disks, and the functions that would become one if they were
// bound, in order of place. Nothing is bound or opened.
func (s *System) Inventory() ([]Device, error) {
	functions, err := s.Functions()
	if err != nil {
		return nil, err
	}
	children := s.children()
	s.mu.Lock()
	defer s.mu.Unlock()
	var devices []Device
	for _, f := range functions {
		a, err := address(f.Place)
		if err != nil {
			return nil, err
		}
		found := s.readBack(f, children[a])
		if f.Driver != "" {
			found = s.remember(a, found)
		}
		if len(found) == 0 {
			if f.Driver != "" && f.Supported && f.Kind == Disk {
				f.Supported, f.Why = false, "no disk is behind this controller"
			}
			found = []Device{f}
		}
		devices = append(devices, found...)
	}
	for i := range devices {
		devices[i].Boot = s.boot != "" && devices[i].Node == s.boot
	}
	disambiguate(devices)
	return devices, nil
}

// remember adds the NICs that were there before and are out of sight now, because their links
// live in another network namespace, and keeps what is there for the next time. The caller
// holds mu.
func (s *System) remember(address string, found []Device) []Device {
	for _, old := range s.seen[address] {
		if old.Kind == NIC && !slices.ContainsFunc(found, func(d Device) bool { return d.ID == old.ID }) {
			found = append(found, old)
		}
	}
	s.seen[address] = slices.Clone(found)
	return found
}

// disambiguate takes an id away from devices that share it. Whoever clones a serial number
// gets neither the other's place in the configuration nor its data.
func disambiguate(devices []Device) {
	count := map[string]int{}
	for _, d := range devices {
		count[d.ID]++
	}
	for i := range devices {
		if d := &devices[i]; count[d.ID] > 1 && d.ID != d.Place {
			d.Why = fmt.Sprintf("%s is claimed by %d devices; select this one by its place", d.ID, count[d.ID])
			d.ID = d.Place
		}
	}
}
