package hw

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// Freeze keeps the kernel from using any device on its own: no driver binds to a PCI function
// by itself, none without a driver starts DMA, no USB device is used before it was authorised, and no module is loaded on demand.
// It goes as far as it can and reports everything that failed; a kernel without one of these
// switches has nothing to freeze there.
func (s *System) Freeze() error {
	var errs []error
	step := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("freeze hardware: %s: %w", what, err))
		}
	}
	// PCI first: it is the one that releases what matters.
	step("turn PCI probing off", s.bus.Freeze())
	step("take bus mastering", s.bus.Quiet())
	step("turn module autoload off", s.set("/proc/sys/kernel/modprobe", "\n"))
	// For USB controllers yet to come (the loader gives it to usbcore as a parameter too) …
	step("authorise no USB device", s.set("/sys/module/usbcore/parameters/authorized_default", "0"))
	// … and for those already there.
	for _, hub := range s.glob("/sys/bus/usb/devices/usb*/authorized_default") {
		step("authorise no USB device", s.set(s.relative(hub), "0"))
	}
	return errors.Join(errs...)
}

// relative turns a path under the root back into one that set and attribute take.
func (s *System) relative(path string) string {
	return strings.TrimPrefix(path, filepath.Clean(s.root))
}

// Isolate unbinds the function at the place, forbids any driver for it and takes its bus
// mastering. Everything behind it goes with it.
func (s *System) Isolate(place string) error {
	a, err := address(place)
	if err != nil {
		return fmt.Errorf("isolate: %w", err)
	}
	if err := s.bus.Isolate(a); err != nil {
		return fmt.Errorf("isolate %s: %w", place, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, a)
	delete(s.hidden, a) // whoever binds it next scans all of it
	delete(s.empty, a)
	return nil
}

// Remove hides the function at the place from the kernel until the bus is scanned again.
// Isolate it first: a rescan brings it back, but without its override.
func (s *System) Remove(place string) error {
	a, err := address(place)
	if err == nil {
		err = s.bus.Remove(a)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", place, err)
	}
	return nil
}
