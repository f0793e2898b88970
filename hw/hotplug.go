package hw

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/hw/pci"
	"github.com/ratchetos/ratchet/hw/uevent"
)

const (
	// lull is how long nothing has to happen before a change is looked at: a controller brings its
	// disks one after the other.
	lull = 300 * time.Millisecond
	// stroll is how long Watch waits for an event before it looks whether it is to end.
	stroll = 5 * time.Second
)

// Watch calls changed after devices were plugged or pulled, until ctx ends. A PCI function that shows
// up is isolated at once: Linux 6.1 binds a function that is plugged to any loaded driver, whatever
// drivers_autoprobe says, and tells user space at the same time.
func (s *System) Watch(ctx context.Context, changed func()) error {
	events, err := uevent.Listen()
	if err != nil {
		return err
	}
	defer events.Close()
	changed() // what came before the listener was open
	dirty := false
	for ctx.Err() == nil {
		wait := stroll
		if dirty {
			wait = lull
		}
		got := events.Wait(wait)
		if len(got) == 0 && dirty {
			dirty = false
			changed()
		}
		for _, e := range got {
			dirty = s.notice(e) || dirty
		}
		dirty = dirty || events.Lost()
	}
	return nil
}

// notice takes an event in and says whether it is about a NIC or disk that may have come or gone.
func (s *System) notice(e uevent.Event) bool {
	if e.Action != "add" && e.Action != "remove" {
		return false
	}
	a := path.Base(e.Path)
	switch {
	case e.Subsystem == "block":
		return true
	case e.Subsystem != "pci" || !pci.ValidAddress(a):
		return false
	}
	s.forget(a) // whatever was known of this address is about another device
	if e.Action == "remove" {
		return true
	}
	f, err := s.bus.Get(a)
	const bridge = "06"
	if err != nil || strings.HasPrefix(f.Class, bridge) {
		return true // gone again, or the way to what will be announced next
	}
	if f.Driver != "" {
		s.log.Warn("the kernel bound a function that was plugged", "function", a, "driver", f.Driver)
	}
	if err := s.bus.Isolate(a); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("isolate a function that was plugged", "function", a, "err", err)
	}
	return true
}

// forget drops what was remembered about a function.
func (s *System) forget(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.seen, address)
	delete(s.hidden, address)
	delete(s.empty, address)
}

// Changes tells what was pulled and what was plugged between two inventories. A function that lost or
// got its driver has done neither.
func Changes(before, after []Device) (gone, came []Device) {
	return missing(before, after), missing(after, before)
}

// missing lists the devices that there are and that others do not have.
func missing(are, others []Device) (out []Device) {
	for _, d := range are {
		a, err := address(d.Place)
		if err != nil || d.Driver != "" && d.Node == "" { // a file, or a controller without disks
			continue
		}
		same := func(o Device) bool { b, err := address(o.Place); return err == nil && a == b }
		i := slices.IndexFunc(others, same)
		switch {
		case i < 0:
			out = append(out, d)
		case d.Driver == "" || slices.ContainsFunc(others, func(o Device) bool { return same(o) && o.Driver == "" }):
			// Bound then, unbound now, or the other way round.
		case !slices.ContainsFunc(others, d.is):
			out = append(out, d) // a disk behind a controller that stayed
		}
	}
	return out
}

// is says whether two inventories mean the same device. Its id is not enough: a second device with the
// same serial number takes it away from both.
func (d Device) is(o Device) bool {
	return d.ID == o.ID || d.Place == o.Place && d.Serial == o.Serial && d.MAC == o.MAC
}
