package boot

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

const (
	// binders is how many functions are bound at a time: probing waits more than it computes.
	binders = 8
	// readBackLimit bounds the whole of step e; what has not answered by then is isolated.
	readBackLimit = 90 * time.Second
)

// observed is one function with what was found behind it.
type observed struct {
	function hw.Device
	devices  []verdict.Observed
}

// readBack binds every function that the catalogue knows and reads its devices. On an isolated box
// it binds nothing and lists the functions.
func (c *check) readBack(ctx context.Context) []observed {
	functions, err := c.Hardware.Functions()
	if err != nil {
		c.Say("warning: list hardware: %v", err)
		return nil
	}
	seen := make([]observed, len(functions))
	ctx, cancel := context.WithTimeout(ctx, readBackLimit)
	defer cancel()
	var wg sync.WaitGroup
	free := make(chan struct{}, binders)
	slices.SortStableFunc(functions, slowestFirst)
	for i, f := range functions {
		seen[i].function = f
		if !c.j.Released() || !f.Supported {
			continue
		}
		wg.Add(1)
		free <- struct{}{}
		go func() {
			defer func() { <-free; wg.Done() }()
			seen[i].devices = c.bind(ctx, f)
		}()
	}
	wg.Wait()
	slices.SortFunc(seen, func(a, b observed) int { return cmp.Compare(a.function.Place, b.function.Place) })
	return seen
}

// builtIn says what isolation cannot promise: a driver in the kernel itself has bound before init ran. The cloud kernel
// has NVMe's.
func (c *check) builtIn(functions []hw.Device) {
	for _, f := range functions {
		if f.Driver != "" {
			c.Say("warning: isolation is not guaranteed: %s was bound to %s, which this kernel has built in, before init ran", f.Place, f.Driver)
		}
	}
}

// slowestFirst orders functions by how long what is behind them takes to show up: controllers that
// look for disks wait while the others' drivers are loaded.
func slowestFirst(a, b hw.Device) int {
	rank := func(d hw.Device) int {
		if n := slices.Index([]string{"scsi", "ata", "usb", "nvme"}, d.Bus); n >= 0 {
			return n
		}
		return math.MaxInt
	}
	return cmp.Compare(rank(a), rank(b))
}

// bind never fails: a function that cannot be bound is a device that cannot be read.
func (c *check) bind(ctx context.Context, f hw.Device) (out []verdict.Observed) {
	unreadable := func(err any) []verdict.Observed {
		return []verdict.Observed{{ID: f.Place, Place: f.Place, Kind: string(f.Kind), Err: fmt.Sprint(err)}}
	}
	defer func() {
		if p := recover(); p != nil {
			out = unreadable(p)
		}
	}()
	devices, err := c.Hardware.Bind(ctx, f.Place)
	if err != nil {
		return unreadable(err)
	}
	for _, d := range devices {
		if d.Boot || d.Node != "" && d.Node == c.disk.Node {
			continue // its content is what LEDGER and TPM vouch for
		}
		if c.rescue != nil && d.ID == c.rescue.id {
			continue // it is somebody's, and leaves the box again
		}
		out = append(out, verdict.Observed{
			ID: d.ID, Place: d.Place, Kind: string(d.Kind), Serial: d.Serial, Model: d.Model,
			Content: ledger.OfFirmware(d.Firmware, d.FirmwareDigest), Err: d.FirmwareErr, KnownGood: d.KnownGood,
		})
	}
	return out
}

// isolateRest takes the driver from every function that has no released device behind it.
func (c *check) isolateRest(seen []observed) {
	released := map[string]bool{}
	for _, d := range c.devices {
		released[d.ID] = d.Decision == verdict.Released
	}
	for _, o := range seen {
		keep := false
		for _, d := range o.devices {
			keep = keep || released[d.ID]
		}
		// An empty controller and the boot disk's are of use to a released box.
		if c.j.Released() && (keep || len(o.devices) == 0 && o.function.Supported) {
			continue
		}
		c.isolate(o.function)
	}
}

// quarantineNIC binds the one NIC that the image's policy leaves an isolated box for its recovery. Its
// link stays down; core decides whether anything is sent.
func (c *check) quarantineNIC(ctx context.Context) {
	place := c.Policy.QuarantineNIC
	if c.j.Released() || place == "" {
		return
	}
	devices, err := c.Hardware.Bind(ctx, place)
	if err != nil {
		c.Say("warning: bind the quarantine NIC: %v", err)
		return
	}
	for _, d := range devices {
		c.devices = slices.DeleteFunc(c.devices, func(v verdict.Device) bool { return v.ID == place || v.ID == d.ID })
		c.devices = append(c.devices, verdict.Device{ID: d.ID, Verdict: verdict.Verdict{
			Decision: verdict.Quarantined, Code: "quarantine-nic", Reason: "the image's policy leaves this NIC to an isolated box",
		}})
	}
}

// isolateAll is for a verdict that changes after the devices had theirs.
func (c *check) isolateAll() {
	functions, err := c.Hardware.Functions()
	if err != nil {
		c.Say("warning: list hardware: %v", err)
	}
	for _, f := range functions {
		c.isolate(f)
	}
}

func (c *check) isolate(f hw.Device) {
	if err := c.Hardware.Isolate(f.Place); err != nil {
		c.Say("warning: isolate %s: %v", f.Place, err)
	}
}

// flatten gives the engine what was seen, function by function.
func flatten(seen []observed) []verdict.Observed {
	var all []verdict.Observed
	for _, o := range seen {
		all = append(all, o.devices...)
	}
	return all
}

// ids names everything that an isolated box does not use.
func ids(seen []observed) []string {
	var out []string
	for _, o := range seen {
		if len(o.devices) == 0 {
			out = append(out, o.function.Place)
		}
		for _, d := range o.devices {
			out = append(out, d.ID)
		}
	}
	return out
}

func unsupported(seen []observed) []verdict.Device {
	var out []verdict.Device
	for _, o := range seen {
		if !o.function.Supported {
			out = append(out, verdict.Device{ID: o.function.Place, Verdict: verdict.Verdict{
				Decision: verdict.Isolated, Code: "unsupported", Reason: o.function.Why, Next: "ratchetctl hw list",
			}})
		}
	}
	return out
}
