package queue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/ratchetos/ratchet/plugins/migration/template"
)

var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

// TestQueue runs testdata/queue.txt. After every command the queue is written and read back, as by another process.
//
//	add NAME [priority=N] [canary] [pause=D] [budget=N]   waves, one a line
//	next free=N [busy=VM]      what begins
//	ended ID [failed] [idle=ID]   handed out, and not begun
//	cancel ID
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
			var idle string
			optional(t, d, "idle", &idle)
			b, dropped := q.Ended(d.CmdArgs[0].Key, d.HasArg("failed"), now, func(id string) bool { return id == idle })
			for _, e := range dropped {
				fmt.Fprintf(&out, "dropped %s: %s\n", e.ID, b.Stopped)
			}
		case "cancel":
			fmt.Fprintln(&out, "was waiting:", q.Cancel(d.CmdArgs[0].Key, now) != nil)
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
		for _, o := range q.Open(now) {
			fmt.Fprintf(&out, "  %s: %s\n", o.ID, cmp.Or(o.Why, "begun"))
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
	name := d.CmdArgs[0].Key
	b := &Batch{Template: name, Rollout: template.Rollout{Canary: d.HasArg("canary")}}
	optional(t, d, "priority", &b.Priority)
	optional(t, d, "budget", &b.Rollout.Allowed)
	var pause string
	optional(t, d, "pause", &pause)
	if pause != "" {
		b.Rollout.Pause, _ = time.ParseDuration(pause)
	}
	for line := range strings.Lines(d.Input) {
		var wave []string
		for _, vm := range strings.Fields(line) {
			e := &Entry{ID: name + "/" + vm, VM: vm, Order: json.RawMessage("{}")}
			b.Entries, wave = append(b.Entries, e), append(wave, e.ID)
		}
		b.Rollout.Waves = append(b.Rollout.Waves, wave)
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
	one := func(id string) *Batch { return Single(&Entry{ID: id, VM: id}, 0) }
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
