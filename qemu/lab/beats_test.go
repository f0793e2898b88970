package lab

import (
	"slices"
	"testing"
	"time"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

func TestGap(t *testing.T) {
	var b Beats
	// Every 5 ms, but for a silence from 100 to 180 in which beats 21 and 22 were lost, and one at the end.
	for ms, seq := 5, uint64(1); ms <= 300; ms, seq = ms+5, seq+1 {
		if ms == 105 {
			ms, seq = 180, 23
		}
		b.add(beat{at: at(ms), seq: seq})
	}
	for name, c := range map[string]struct {
		from, to  int
		gap, lost int
	}{
		"around it":        {50, 250, 80, 2},
		"began before":     {150, 250, 80, 0},
		"ends in it":       {50, 150, 50, 0},
		"after it":         {181, 300, 5, 0},
		"before it":        {10, 100, 5, 0},
		"never comes back": {250, 1300, 1000, 0},
	} {
		if gap, lost := b.Gap(at(c.from), at(c.to)); gap != time.Duration(c.gap)*time.Millisecond || lost != c.lost {
			t.Errorf("%s: %v and %d lost, want %d ms and %d", name, gap, lost, c.gap, c.lost)
		}
	}
	for ms, want := range map[int]int{0: 0, 52: 5, 98: 80, 100: 80, 179: 80, 181: 5, 400: 0} {
		if got := b.Around(at(ms)); got != time.Duration(want)*time.Millisecond {
			t.Errorf("around %d ms: %v, want %d ms", ms, got, want)
		}
	}
	if twins := b.Twins(); len(twins) > 0 {
		t.Errorf("twins: %v", twins)
	}
	// Another with the same memory goes on from 20.
	b.add(beat{at: at(200), seq: 20})
	if twins := b.Twins(); !slices.Equal(twins, []uint64{20}) {
		t.Errorf("twins: %v", twins)
	}
}

func TestRunners(t *testing.T) {
	type event struct {
		process, name string
		ms            int
	}
	for name, c := range map[string]struct {
		events []event
		two    bool
	}{
		"a move":                  {[]event{{"a", "RESUME", 0}, {"a", "STOP", 100}, {"b", "RESUME", 101}}, false},
		"told in another order":   {[]event{{"a", "RESUME", 0}, {"b", "RESUME", 101}, {"a", "STOP", 100}}, false},
		"at the same microsecond": {[]event{{"a", "RESUME", 0}, {"a", "STOP", 100}, {"b", "RESUME", 100}}, false},
		"resumed too early":       {[]event{{"a", "RESUME", 0}, {"b", "RESUME", 99}, {"a", "STOP", 100}}, true},
		"source goes on":          {[]event{{"a", "RESUME", 0}, {"a", "STOP", 100}, {"b", "RESUME", 101}, {"a", "RESUME", 102}}, true},
		"and for a moment only":   {[]event{{"a", "RESUME", 0}, {"a", "STOP", 100}, {"b", "RESUME", 101}, {"a", "RESUME", 102}, {"a", "STOP", 103}}, true},
		"there and back":          {[]event{{"a", "RESUME", 0}, {"a", "STOP", 1}, {"b", "RESUME", 2}, {"b", "STOP", 3}, {"a", "RESUME", 4}}, false},
		"nothing of the kind":     {[]event{{"a", "RESUME", 0}, {"b", "MIGRATION", 5}, {"b", "VSERPORT_CHANGE", 6}}, false},
	} {
		var r Runners
		for _, e := range c.events {
			r.Event(e.process, e.name, at(e.ms))
		}
		if err := r.Err(); (err != nil) != c.two {
			t.Errorf("%s: %v", name, err)
		}
	}
	var r Runners
	r.Started("a", at(0))
	r.Ended("a", at(10)) // killed
	r.Started("b", at(11))
	if err := r.Err(); err != nil || !slices.Equal(r.Running(), []string{"b"}) {
		t.Errorf("%v, running %v", err, r.Running())
	}
}
