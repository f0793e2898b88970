package watch

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// TestAgent: what becomes of a host's counters between two looks ten seconds apart.
func TestAgent(t *testing.T) {
	before := load.Host{CPUs: 8, Busy: time.Hour, Memory: 1000, Available: 300, NICs: map[string]load.NIC{"eth0": {Sent: 1000, Received: 5000}}}
	after := load.Host{CPUs: 8, Busy: time.Hour + 25*time.Second, Memory: 1000, Available: 200, NICs: map[string]load.NIC{"eth0": {Sent: 9000, Received: 6000}}}
	for name, c := range map[string]struct {
		what         func(load.Host) (Reading, error)
		before       load.Host
		value, whole float64
		first        bool // says something at the first look
		refused      bool
	}{
		"processors":                   {what: Processors, before: before, value: 2.5, whole: 8},
		"memory":                       {what: Memory, before: before, value: 800, whole: 1000, first: true},
		"NIC, more is sent":            {what: NIC("eth0"), before: before, value: 800},
		"NIC that is not there":        {what: NIC("eth7"), before: before, refused: true},
		"no processors are told":       {what: Processors, refused: true},
		"no memory is told":            {what: Memory, refused: true},
		"more available than there is": {what: Memory, before: load.Host{Memory: 10, Available: 20}, value: 800, whole: 1000, first: true},
	} {
		now, asked := time.Unix(1000, 0), 0
		a := &Agent{Host: "rack1", What: c.what, Load: func(_ context.Context, host string) (load.Host, error) {
			if asked++; host != "rack1" {
				t.Errorf("%s: host %s was asked", name, host)
			}
			if asked == 1 {
				return c.before, nil
			}
			return after, nil
		}}
		clock := func() time.Time { now = now.Add(10 * time.Second); return now }
		if _, _, ok, err := a.Look(t.Context(), clock); (err != nil) != c.refused || ok != c.first {
			t.Errorf("%s: first look: %v, %v", name, ok, err)
		}
		if c.refused {
			continue
		}
		if s, whole, ok, err := a.Look(t.Context(), clock); err != nil || !ok || s.Value != c.value || whole != c.whole {
			t.Errorf("%s: %v of %v, %v, %v", name, s.Value, whole, ok, err)
		}
	}
	gone := errors.New("no route to host")
	a := &Agent{Host: "rack1", What: Memory, Load: func(context.Context, string) (load.Host, error) { return load.Host{}, gone }}
	if _, _, _, err := a.Look(t.Context(), time.Now); !errors.Is(err, gone) {
		t.Errorf("a host that is away: %v", err)
	}
}
