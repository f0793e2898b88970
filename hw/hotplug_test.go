package hw

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/hw/uevent"
)

func ids(devices []Device) (out []string) {
	for _, d := range devices {
		out = append(out, d.ID)
	}
	slices.Sort(out)
	return out
}

func TestChanges(t *testing.T) {
	nic := Device{ID: "mac:1", Place: "pci:0000:00:03.0", Driver: "e1000e", Node: "eth0"}
	bareNIC := Device{ID: nic.Place, Place: nic.Place}
	a := Device{ID: "serial:a", Place: "pci:0000:00:04.0/0:0:0", Driver: "virtio-pci", Node: "/dev/sda"}
	b := Device{ID: "serial:b", Place: "pci:0000:00:04.0/0:1:0", Driver: "virtio-pci", Node: "/dev/sdb"}
	empty := Device{ID: "pci:0000:00:04.0", Place: "pci:0000:00:04.0", Driver: "virtio-pci"}
	a.Serial = "a"
	clone := a
	clone.Place = "pci:0000:00:04.0/0:2:0"
	unnamed := func(d Device) Device { d.ID = d.Place; return d } // as disambiguate leaves devices of one serial
	file := Device{ID: "file:/x", Place: "file:/x"}
	for name, tt := range map[string]struct {
		before, after []Device
		plugged       string
		gone, came    []string
	}{
		"nothing":               {[]Device{nic, a, file}, []Device{a, nic}, "", nil, nil},
		"function pulled":       {[]Device{nic, a}, []Device{a}, "", []string{"mac:1"}, nil},
		"function plugged":      {[]Device{a}, []Device{a, bareNIC}, "0000:00:03.0", nil, []string{nic.Place}},
		"function returned":     {[]Device{nic, a}, []Device{bareNIC, a}, "0000:00:03.0", []string{"mac:1"}, []string{nic.Place}},
		"plugged and gone":      {[]Device{nic, a}, []Device{a}, "0000:00:03.0", []string{"mac:1"}, nil},
		"driver taken":          {[]Device{nic}, []Device{bareNIC}, "", nil, nil},
		"driver bound":          {[]Device{bareNIC}, []Device{nic}, "", nil, nil},
		"disk pulled":           {[]Device{a, b}, []Device{a}, "", []string{"serial:b"}, nil},
		"disk plugged":          {[]Device{a}, []Device{a, b}, "", nil, []string{"serial:b"}},
		"disk swapped":          {[]Device{a}, []Device{b}, "", []string{"serial:a"}, []string{"serial:b"}},
		"first disk of its bus": {[]Device{empty}, []Device{a}, "", nil, []string{"serial:a"}},
		"last disk of its bus":  {[]Device{a}, []Device{empty}, "", []string{"serial:a"}, nil},
		"clone plugged":         {[]Device{a}, []Device{unnamed(a), unnamed(clone)}, "", nil, []string{clone.Place}},
		"clone pulled":          {[]Device{unnamed(a), unnamed(clone)}, []Device{a}, "", []string{clone.Place}, nil},
		"controller pulled":     {[]Device{a, b}, nil, "", []string{"serial:a", "serial:b"}, nil},
	} {
		gone, came := Changes(tt.before, tt.after, []string{tt.plugged})
		if !slices.Equal(ids(gone), tt.gone) || !slices.Equal(ids(came), tt.came) {
			t.Errorf("%s: gone %v, came %v; want %v and %v", name, ids(gone), ids(came), tt.gone, tt.came)
		}
	}
}

// TestRefresh: after a look at one function, what the kernel bound elsewhere meanwhile is news still.
func TestRefresh(t *testing.T) {
	bare := Device{ID: "pci:0000:00:03.0", Place: "pci:0000:00:03.0"}
	bound := Device{ID: "mac:1", Place: bare.Place, Driver: "e1000e", Node: "eth0"}
	disk := Device{ID: "serial:two", Place: "pci:0000:00:07.0/1", Driver: "nvme", Node: "/dev/nvme1n1"}
	seen := Refresh([]Device{bare}, []Device{bound, disk}, []Device{bare})
	if got := ids(seen); !slices.Equal(got, []string{"mac:1"}) {
		t.Errorf("seen: %v", got)
	}
	isolated := Device{ID: "pci:0000:00:07.0", Place: "pci:0000:00:07.0"}
	if gone, came := Changes(seen, []Device{bound, isolated}, []string{"0000:00:07.0"}); len(gone) > 0 || !slices.Equal(ids(came), []string{isolated.ID}) {
		t.Errorf("gone %v, came %v", ids(gone), ids(came))
	}
}

// told are events as a test tells them: nil is a lull.
type told struct {
	events chan []uevent.Event
	lost   bool
}

func (s *told) Wait(time.Duration) []uevent.Event {
	e := <-s.events
	s.lost = len(e) > 0 && e[0].Action == "" // how a test says it
	return e
}

func (s *told) Lost() bool { return s.lost }

// TestWatchGoesOn: while somebody looks at a change, functions that are plugged are isolated, and the next call tells of
// all of them.
func TestWatchGoesOn(t *testing.T) {
	s, root := open(t, box)
	from := &told{events: make(chan []uevent.Event)}
	ctx, cancel := context.WithCancel(t.Context())
	calls, goOn := make(chan News), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.follow(ctx, from, func(n News) { calls <- n; <-goOn })
	}()
	plug := func(address string) {
		t.Helper()
		// The second is taken when the first was dealt with.
		from.events <- []uevent.Event{{Action: "add", Path: "/devices/pci0000:00/" + address, Subsystem: "pci"}}
		from.events <- nil
		if b, err := os.ReadFile(filepath.Join(root, "sys/devices/pci0000:00", address, "driver_override")); err != nil || strings.TrimSpace(string(b)) != "isolated" {
			t.Errorf("%s: override %q, %v", address, b, err)
		}
	}
	if n := <-calls; n.Lost || len(n.Plugged) > 0 {
		t.Errorf("the first call: %+v", n)
	}
	plug("0000:00:02.0")
	plug("0000:00:01.0")
	from.events <- []uevent.Event{{}} // events were lost
	goOn <- struct{}{}
	if n := <-calls; n.Lost || !slices.Equal(n.Plugged, []string{"0000:00:02.0"}) {
		t.Errorf("the second call: %+v", n)
	}
	from.events <- nil
	goOn <- struct{}{}
	if n := <-calls; !n.Lost || !slices.Equal(n.Plugged, []string{"0000:00:01.0"}) {
		t.Errorf("the third call: %+v", n)
	}
	for range 3 { // nothing is left to tell
		from.events <- nil
	}
	close(goOn)
	cancel()
	select {
	case from.events <- nil: // it may wait for one more
	case <-ended:
	}
	<-ended
	select {
	case n := <-calls:
		t.Errorf("one more call: %+v", n)
	default:
	}
}

// TestPluggedFunctionIsIsolated: the kernel may have bound it before anybody was told.
func TestPluggedFunctionIsIsolated(t *testing.T) {
	s, root := open(t, box)
	event := func(action, address, subsystem string) bool {
		relevant, _ := s.notice(uevent.Event{Action: action, Path: "/devices/pci0000:00/" + address, Subsystem: subsystem})
		return relevant
	}
	override := func(address string) string {
		b, err := os.ReadFile(filepath.Join(root, "sys/devices/pci0000:00", address, "driver_override"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	if !event("add", "0000:00:02.0", "pci") {
		t.Error("a NIC that was plugged went unnoticed")
	}
	if got := override("0000:00:02.0"); got != "isolated" {
		t.Errorf("override %q", got)
	}
	if !event("add", "0000:00:00.0", "pci") || override("0000:00:00.0") == "isolated" {
		t.Error("a bridge is no device")
	}
	if !event("remove", "0000:00:1e.0", "pci") || !event("add", "0000:00:03.0/virtio1/block/vdb", "block") {
		t.Error("a change went unnoticed")
	}
	if event("bind", "0000:00:02.0", "pci") || event("add", "0000:00:02.0/net/eth1", "net") {
		t.Error("noticed what is no change")
	}
}
