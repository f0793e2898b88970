package trial

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// Meter counts what transfers send, by what the sources' QEMUs answer whoever watches them: it adds no question of its own, and
// sees the last answer of each, after which the source is gone. Time is that of the QEMU, so that an answer that was read late
// does not move bytes from one second to another.
type Meter struct {
	mu    sync.Mutex
	moves map[string]*count
}

// count is what one transfer has sent.
type count struct {
	began    time.Time // by the answer that was read soonest
	readings []reading
}

// reading is how many bytes had been sent so long after the start.
type reading struct {
	after time.Duration
	bytes float64
}

// Reset forgets all that was read.
func (m *Meter) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moves = map[string]*count{}
}

// line takes one of a monitor, as lab.HostOptions.Transcript hands it over.
func (m *Meter) line(vm string, sent bool, line []byte) {
	now := time.Now()
	if sent || !bytes.Contains(line, []byte(`"transferred"`)) {
		return
	}
	var r struct {
		Return struct {
			Total int64 `json:"total-time"` // ms
			RAM   struct {
				Transferred float64 `json:"transferred"`
			} `json:"ram"`
		} `json:"return"`
	}
	if json.Unmarshal(line, &r) != nil || r.Return.Total == 0 {
		return // just begun, or not about a transfer of memory
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moves == nil {
		return // nobody counts
	}
	c := m.moves[vm]
	if c == nil {
		c = &count{began: now, readings: []reading{{}}}
		m.moves[vm] = c
	}
	after := time.Duration(r.Return.Total) * time.Millisecond
	if began := now.Add(-after); began.Before(c.began) {
		c.began = began
	}
	if after > c.readings[len(c.readings)-1].after {
		c.readings = append(c.readings, reading{after, r.Return.RAM.Transferred})
	}
}

// Sent is how much of a VM has been sent.
func (m *Meter) Sent(vm string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.moves[vm]; c != nil {
		return uint64(c.readings[len(c.readings)-1].bytes)
	}
	return 0
}

// Peak is the most bytes of the named VMs together in any second.
func (m *Meter) Peak(vms ...string) (most float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var counts []*count
	for _, vm := range vms {
		if c := m.moves[vm]; c != nil {
			counts = append(counts, c)
		}
	}
	second := func(end time.Time) (sum float64) {
		for _, c := range counts {
			sum += c.by(end) - c.by(end.Add(-time.Second))
		}
		return sum
	}
	for _, c := range counts {
		for _, r := range c.readings {
			// A sum of straight pieces is largest where one of them begins or ends.
			at := c.began.Add(r.after)
			most = max(most, second(at), second(at.Add(time.Second)))
		}
	}
	return most
}

// by is how much had been sent at a time, on a straight line between two readings.
func (c *count) by(at time.Time) float64 {
	after := at.Sub(c.began)
	i, exact := slices.BinarySearchFunc(c.readings, after, func(r reading, d time.Duration) int { return int(r.after - d) })
	switch {
	case exact:
		return c.readings[i].bytes
	case i == 0:
		return 0
	case i == len(c.readings):
		return c.readings[i-1].bytes
	}
	from, to := c.readings[i-1], c.readings[i]
	return from.bytes + (to.bytes-from.bytes)*float64(after-from.after)/float64(to.after-from.after)
}
