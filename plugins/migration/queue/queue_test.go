package queue

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// TestQueue runs testdata/queue.txt. After every command the queue is written and read back, as by another process.
//
//	add NAME [priority=N] [canary] [pause=D] [budget=N]   waves, one a line
//	next free=N [busy=VM]      what begins
//	ended ID [failed]
//	wait D                     time passes
//	reconcile [known=ID,…]
func TestQueue(t *testing.T) {
	q, now := &Queue{Version: Version}, epoch
	datadriven.RunTest(t, "testdata/queue.txt", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		switch d.Cmd {
		case "add":
			if err := q.Add(batch(t, d)); err != nil {
				return err.Error() + "\n"
			}
		case "next":
			var free int
			var busy string
			d.ScanArgs(t, "free", &free)
			optional(t, d, "busy", &busy)
			begin, again := q.Next(now, free, func(vm string) bool { return vm == busy })
			for _, e := range begin {
				fmt.Fprintf(&out, "begin %s of %s\n", e.ID, e.VM)
			}
			if !again.IsZero() {
				fmt.Fprintf(&out, "again in %s\n", again.Sub(now))
			}
		case "ended":
			dropped, why := q.Ended(d.CmdArgs[0].Key, d.HasArg("failed"), now)
			for _, e := range dropped {
				fmt.Fprintf(&out, "dropped %s: %s\n", e.ID, why)
			}
		case "wait":
			span, err := time.ParseDuration(d.CmdArgs[0].Key)
			if err != nil {
				t.Fatal(err)
			}
			now = now.Add(span)
		case "reconcile":
			known := map[string]bool{}
			for _, a := range d.CmdArgs {
				for _, v := range a.Vals {
					known[v] = true
				}
			}
			q.Reconcile(func(id string) bool { return known[id] })
		default:
			t.Fatalf("unknown command %s", d.Cmd)
		}
		for _, w := range q.Waiting(now) {
			fmt.Fprintf(&out, "  %s: %s\n", w.ID, w.Why)
		}
		text, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		if q, err = Read(text); err != nil {
			t.Fatal(err)
		}
		return out.String()
	})
}

// batch makes one whose waves are lines of VMs; IDs are the batch's name and the VM's.
func batch(t *testing.T, d *datadriven.TestData) *Batch {
	t.Helper()
	b := &Batch{ID: d.CmdArgs[0].Key, Template: d.CmdArgs[0].Key, Canary: d.HasArg("canary")}
	optional(t, d, "priority", &b.Priority)
	optional(t, d, "budget", &b.Budget)
	var pause string
	optional(t, d, "pause", &pause)
	if pause != "" {
		b.Pause, _ = time.ParseDuration(pause)
	}
	for line := range strings.Lines(d.Input) {
		var wave []*Entry
		for _, vm := range strings.Fields(line) {
			wave = append(wave, &Entry{ID: b.ID + "/" + vm, VM: vm, Order: json.RawMessage("{}")})
		}
		b.Waves = append(b.Waves, wave)
	}
	return b
}

func optional(t *testing.T, d *datadriven.TestData, key string, into any) {
	t.Helper()
	if d.HasArg(key) {
		d.ScanArgs(t, key, into)
	}
}

func TestBounds(t *testing.T) {
	q := &Queue{Version: Version}
	one := func(id string) *Batch { return &Batch{ID: id, Waves: [][]*Entry{{{ID: id, VM: id}}}} }
	for i := range maxBatches {
		if err := q.Add(one(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Add(one("more")); err == nil {
		t.Error("there is no end of batches")
	}
	if _, err := Read([]byte(`{"version": 2}`)); err == nil {
		t.Error("a newer format was read")
	}
	if _, err := Read([]byte(`{`)); err == nil {
		t.Error("half a queue was read")
	}
	if q, err := Read(nil); err != nil || len(q.Batches) > 0 {
		t.Errorf("nothing kept: %v, %v", q, err)
	}
}
