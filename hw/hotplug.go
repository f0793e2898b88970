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

// News is why Watch calls.
type News struct {
	// Plugged are the PCI functions that were plugged, and isolated, since the last call, by address.
	Plugged []string
	// Lost says that events were dropped: more may have been plugged, and bound by the kernel.
	Lost bool
}

// source is where events come from; a uevent.Listener is one.
type source interface {
	Wait(d time.Duration) []uevent.Event
	Lost() bool
}

// Watch calls changed after devices were plugged or pulled, until ctx ends. A PCI function that shows
// up is isolated at once: Linux 6.1 binds a function that is plugged to any loaded driver, whatever
// drivers_autoprobe says, and tells user space at the same time. That does not wait for changed, which
// may take its time; there is one call of it at a time, and what happens meanwhile is told by the next.
func (s *System) Watch(ctx context.Context, changed func(News)) error {
	events, err := uevent.Listen()
	if err != nil {
		return err
	}
	defer events.Close()
	s.follow(ctx, events, changed)
	return nil
}

func (s *System) follow(ctx context.Context, events source, changed func(News)) {
	calls := make(chan News, 1)
	calls <- News{} // what came before the listener was open
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n := range calls {
			changed(n)
		}
	}()
	defer func() {
		close(calls)
		<-ended
	}()
	var news News
	dirty := false
	for ctx.Err() == nil {
		wait := stroll
		if dirty {
			wait = lull
		}
		got := events.Wait(wait)
		if len(got) == 0 && dirty {
			select {
			case calls <- news:
				news, dirty = News{}, false
			default: // changed is at work, and one call waits already
			}
		}
		for _, e := range got {
			relevant, plugged := s.notice(e)
			dirty = relevant || dirty
			if plugged != "" && !slices.Contains(news.Plugged, plugged) {
				news.Plugged = append(news.Plugged, plugged)
			}
		}
		if events.Lost() {
			news.Lost, dirty = true, true
		}
	}
}

// notice takes an event in and says whether it is about a NIC or disk that may have come or gone, and
// which function it has isolated.
func (s *System) notice(e uevent.Event) (relevant bool, plugged string) {
	if e.Action != "add" && e.Action != "remove" {
		return false, ""
	}
	a := path.Base(e.Path)
	switch {
	case e.Subsystem == "block":
		return true, ""
	case e.Subsystem != "pci" || !pci.ValidAddress(a):
		return false, ""
	}
	s.forget(a) // whatever was known of this address is about another device
	if e.Action == "remove" {
		return true, ""
	}
	f, err := s.bus.Get(a)
	const bridge = "06"
	if err != nil || strings.HasPrefix(f.Class, bridge) {
		return true, "" // gone again, or the way to what will be announced next
	}
	if f.Driver != "" {
		s.log.Warn("the kernel bound a function that was plugged", "function", a, "driver", f.Driver)
	}
	if err := s.bus.Isolate(a); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("isolate a function that was plugged", "function", a, "err", err)
	}
	return true, a
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
// got its driver has done neither, unless it is one of those that are known to have been plugged.
func Changes(before, after []Device, plugged []string) (gone, came []Device) {
	return missing(before, after, plugged), missing(after, before, plugged)
}

// missing lists the devices that there are and that others do not have.
func missing(are, others []Device, plugged []string) (out []Device) {
	for _, d := range are {
		a, err := address(d.Place)
		if err != nil || d.Driver != "" && d.Node == "" { // a file, or a controller without disks
			continue
		}
		same := func(o Device) bool { return o.at(a) }
		i := slices.IndexFunc(others, same)
		switch {
		case i < 0 || slices.Contains(plugged, a):
			out = append(out, d)
		case d.Driver == "" || slices.ContainsFunc(others, func(o Device) bool { return same(o) && o.Driver == "" }):
			// Bound then, unbound now, or the other way round.
		case !slices.ContainsFunc(others, d.is):
			out = append(out, d) // a disk behind a controller that stayed
		}
	}
	return out
}

// Refresh is an inventory with the functions that some devices are at as a later one shows them. What else is new in the
// later one has not been looked at.
func Refresh(seen, later, some []Device) []Device {
	touched := func(d Device) bool {
		a, err := address(d.Place)
		return err == nil && slices.ContainsFunc(some, func(o Device) bool { return o.at(a) })
	}
	out := slices.DeleteFunc(slices.Clone(seen), touched)
	for _, d := range later {
		if touched(d) {
			out = append(out, d)
		}
	}
	return out
}

// at says whether a device is the function at an address, or behind it.
func (d Device) at(function string) bool {
	a, err := address(d.Place)
	return err == nil && a == function
}

// is says whether two inventories mean the same device. Its id is not enough: a second device with the
// same serial number takes it away from both.
func (d Device) is(o Device) bool {
	return d.ID == o.ID || d.Place == o.Place && d.Serial == o.Serial && d.MAC == o.MAC
}
