package hw

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/hw/catalogue"
	"github.com/ratchetos/ratchet/hw/kmod"
	"github.com/ratchetos/ratchet/hw/pci"
	"github.com/ratchetos/ratchet/hw/uevent"
)

// BindStorage binds the one storage controller at the place and returns the disks behind it,
// none when there are none. It loads that controller's driver and no other, as it is meant for
// the time before the verdict.
func (s *System) BindStorage(ctx context.Context, place string) ([]Device, error) {
	f, entry, err := s.target(place)
	if err != nil {
		return nil, fmt.Errorf("bind storage: %w", err)
	}
	if entry.Kind != catalogue.DiskController {
		return nil, fmt.Errorf("bind storage: %s is a %s", place, entry.Kind)
	}
	return s.bind(ctx, f, entry, nil)
}

// Bind loads the driver of the function at the place, binds it and returns the NICs or disks
// that it gives, read back. NIC links stay down. Disks that HideOthers took away come back. It may be
// called for several functions at once.
//
// It returns an *UnsupportedError for a function that the catalogue does not know.
func (s *System) Bind(ctx context.Context, place string) ([]Device, error) {
	f, entry, err := s.target(place)
	if err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	devices, err := s.bind(ctx, f, entry, s.takeHidden(f.Address))
	if err != nil {
		return nil, err
	}
	for i := range devices {
		s.readFirmware(ctx, entry, &devices[i])
	}
	return devices, nil
}

// target finds the function at a place and what the catalogue knows about it.
func (s *System) target(place string) (pci.Function, catalogue.Entry, error) {
	a, err := address(place)
	if err != nil {
		return pci.Function{}, catalogue.Entry{}, err
	}
	f, err := s.bus.Get(a)
	if err != nil {
		return pci.Function{}, catalogue.Entry{}, err
	}
	if d, ok := s.describe(f); !ok || !d.Supported {
		if !ok {
			d = Device{ID: place, Place: place, Why: "neither a NIC nor a disk controller"}
		}
		return pci.Function{}, catalogue.Entry{}, &UnsupportedError{Selector: place, Device: d}
	}
	entry, _ := s.match(f)
	return f, entry, nil
}

// loadFor loads a driver. Controllers that look for their disks for some time after the driver is
// there go first: the other drivers are loaded while they do.
func (s *System) loadFor(entry catalogue.Entry) error {
	if entry.Kind == catalogue.DiskController && entry.Bus != "virtio" {
		return s.modules.LoadFirst(entry.Modules...)
	}
	return s.modules.Load(entry.Modules...)
}

// waiter knows what an earlier bind of the function has found out.
func (s *System) waiter(f pci.Function, entry catalogue.Entry) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &waiter{system: s, function: f, entry: entry, announced: map[string]bool{}, linkDown: map[string]bool{}}
	if f.Driver != "" {
		maps.Copy(w.linkDown, s.empty[f.Address])
	}
	return w
}

// bind attaches the function to its driver, scans again for the given disks, waits and reads back.
func (s *System) bind(ctx context.Context, f pci.Function, entry catalogue.Entry, again []lun) ([]Device, error) {
	// A workstation has the driver bound, and its modules may be built in under other names.
	if f.Driver == "" {
		if err := s.loadFor(entry); err != nil {
			if errors.Is(err, kmod.ErrUnknown) {
				err = fmt.Errorf("%w; build the image with this device in configs/hardware.yaml", err)
			}
			if errors.Is(err, fs.ErrNotExist) { // DiscardModules: nobody expected a device here
				err = fmt.Errorf("%w; restart the box with the device in it", err)
			}
			return nil, fmt.Errorf("bind %s: %w", f.Address, err)
		}
	}
	w := s.waiter(f, entry)
	if s.live {
		events, err := uevent.Listen()
		if err != nil {
			return nil, fmt.Errorf("bind %s: %w", f.Address, err)
		}
		defer events.Close()
		w.events = events
		if entry.Bus == "ata" {
			if log, err := openLog(); err == nil {
				defer unix.Close(int(log))
				w.log = log
			}
		}
		for _, c := range s.children()[f.Address] { // there before us: announced long ago
			w.announced[c.path] = true
		}
	}
	if f.Driver == "" || f.Driver != entry.Driver {
		if err := s.bus.Bind(f.Address, entry.Driver); err != nil {
			return nil, err
		}
	}
	s.scan(again) // with the listener open: what comes is announced
	if err := w.wait(ctx); err != nil {
		return nil, fmt.Errorf("bind %s to %s: %w", f.Address, entry.Driver, err)
	}
	f.Driver = entry.Driver
	function, _ := s.describe(f)
	devices := s.readBack(function, s.children()[f.Address])
	if len(devices) == 0 && entry.Kind == catalogue.NIC {
		return nil, fmt.Errorf("bind %s to %s: the driver made no network interface; see the kernel log", f.Address, entry.Driver)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range devices {
		devices[i].Boot = s.boot != "" && devices[i].Node == s.boot
	}
	s.seen[f.Address] = slices.Clone(devices)
	s.empty[f.Address] = w.linkDown
	return devices, nil
}
