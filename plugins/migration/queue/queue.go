package queue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Version is the format of the Queues written here.
const Version = 1

// Bounds of a queue: what is kept is written as a whole.
const (
	maxBatches = 64
	maxEntries = 2048
)

// ErrFull means that too much waits already.
var ErrFull = errors.New("too many moves wait: let some end, or cancel them")

// Queue is all that waits or is under way.
type Queue struct {
	Version int      `json:"version"`
	Batches []*Batch `json:"batches,omitempty"` // in the order in which they came
}

// Batch is one order.
type Batch struct {
	ID       string        `json:"id"`
	Template string        `json:"template,omitempty"`
	Priority int           `json:"priority,omitempty"`
	Waves    [][]*Entry    `json:"waves"` // the first one is under way
	Canary   bool          `json:"canary,omitempty"`
	Pause    time.Duration `json:"pause,omitempty"`
	// Budget is how many may fail.
	Budget int `json:"budget,omitempty"`

	Wave   int       `json:"wave"` // counts from 0: waves that have ended
	Failed int       `json:"failed,omitempty"`
	After  time.Time `json:"after,omitzero"` // the wave begins no earlier
}

// Entry is one move.
type Entry struct {
	ID string `json:"id"`
	VM string `json:"vm"`
	// Order is the caller's own: what to do when its turn comes.
	Order json.RawMessage `json:"order"`
	Begun bool            `json:"begun,omitempty"`
}

// Waiting is an entry that has not begun, with the reason.
type Waiting struct {
	*Entry
	Template string
	Why      string
	After    time.Time // zero when nobody knows
}

// Read reads a queue that was kept; nothing is an empty one.
func Read(text []byte) (*Queue, error) {
	q := &Queue{Version: Version}
	if len(text) == 0 {
		return q, nil
	}
	if err := json.Unmarshal(text, q); err != nil {
		return nil, fmt.Errorf("read the queue of moves: %w", err)
	}
	if q.Version != Version {
		return nil, fmt.Errorf("read the queue of moves: it has format %d, and this version knows %d: start the newer version of the box again", q.Version, Version)
	}
	return q, nil
}

// Add takes an order in.
func (q *Queue) Add(b *Batch) error {
	n := 0
	for _, other := range append(slices.Clone(q.Batches), b) {
		for _, w := range other.Waves {
			n += len(w)
		}
	}
	if len(q.Batches) >= maxBatches || n > maxEntries {
		return ErrFull
	}
	b.Waves = slices.DeleteFunc(b.Waves, func(w []*Entry) bool { return len(w) == 0 })
	if len(b.Waves) > 0 {
		q.Batches = append(q.Batches, b)
	}
	return nil
}

// Next hands out at most free moves of VMs that are not busy, and says when to ask again if only time is missing.
func (q *Queue) Next(now time.Time, free int, busy func(vm string) bool) (begin []*Entry, again time.Time) {
	for _, b := range q.byPriority() {
		if now.Before(b.After) {
			if again.IsZero() || b.After.Before(again) {
				again = b.After
			}
			continue
		}
		for _, e := range b.Waves[0] {
			if len(begin) >= free {
				return begin, again
			}
			taken := func(other *Entry) bool { return other.VM == e.VM }
			if e.Begun || busy(e.VM) || slices.ContainsFunc(begin, taken) {
				continue
			}
			e.Begun = true
			begin = append(begin, e)
		}
	}
	return begin, again
}

func (q *Queue) byPriority() []*Batch {
	list := slices.Clone(q.Batches)
	slices.SortStableFunc(list, func(a, b *Batch) int { return cmp.Compare(b.Priority, a.Priority) })
	return list
}

// Ended takes a move out that was handed out or waits. What is dropped because of it comes back with the reason.
func (q *Queue) Ended(id string, failed bool, now time.Time) (dropped []*Entry, why string) {
	for _, b := range q.Batches {
		if !b.take(id) {
			continue
		}
		if failed {
			b.Failed++
		}
		dropped, why = b.judge(failed)
		b.advance(now)
		q.tidy()
		return dropped, why
	}
	return nil, ""
}

// take removes an entry from the batch, wherever it is.
func (b *Batch) take(id string) bool {
	for i, w := range b.Waves {
		if j := slices.IndexFunc(w, func(e *Entry) bool { return e.ID == id }); j >= 0 {
			b.Waves[i] = slices.Delete(w, j, j+1)
			return true
		}
	}
	return false
}

// judge drops what has not begun once too many have failed.
func (b *Batch) judge(failed bool) (dropped []*Entry, why string) {
	switch {
	case failed && b.Canary && b.Wave == 0:
		why = "a move of the first wave failed, which was to be a trial"
	case b.Failed > b.Budget:
		why = fmt.Sprintf("%d moves of the template failed, and %d may", b.Failed, b.Budget)
	default:
		return nil, ""
	}
	for i, w := range b.Waves {
		var stay []*Entry
		for _, e := range w {
			if e.Begun {
				stay = append(stay, e)
			} else {
				dropped = append(dropped, e)
			}
		}
		b.Waves[i] = stay
	}
	return dropped, why
}

// advance goes on to the next wave when one has ended.
func (b *Batch) advance(now time.Time) {
	for len(b.Waves) > 0 && len(b.Waves[0]) == 0 {
		b.Waves = b.Waves[1:]
		b.Wave++
		b.After = now.Add(b.Pause)
	}
}

func (q *Queue) tidy() {
	q.Batches = slices.DeleteFunc(q.Batches, func(b *Batch) bool { return len(b.Waves) == 0 })
}

// Reconcile is called once by a new process: what was handed out and is not known to the runner has not begun.
func (q *Queue) Reconcile(known func(id string) bool) {
	for _, b := range q.Batches {
		for _, w := range b.Waves {
			for _, e := range w {
				e.Begun = e.Begun && known(e.ID)
			}
		}
	}
}

// Begun lists what was handed out and has not ended.
func (q *Queue) Begun() (ids []string) {
	for _, b := range q.Batches {
		for _, e := range b.Waves[0] {
			if e.Begun {
				ids = append(ids, e.ID)
			}
		}
	}
	return ids
}

// Waiting lists what has not begun.
func (q *Queue) Waiting(now time.Time) (list []Waiting) {
	for _, b := range q.byPriority() {
		for i, w := range b.Waves {
			for _, e := range w {
				if e.Begun {
					continue
				}
				x := Waiting{Entry: e, Template: b.Template, Why: "waits for its turn"}
				switch {
				case i > 0:
					x.Why = fmt.Sprintf("in wave %d, after %d", b.Wave+i+1, b.Wave+i)
				case now.Before(b.After):
					x.Why, x.After = "pause between two waves", b.After
				}
				list = append(list, x)
			}
		}
	}
	return list
}

// Template is that of the batch of a move, "" for none.
func (q *Queue) Template(id string) string {
	for _, b := range q.Batches {
		for _, w := range b.Waves {
			for _, e := range w {
				if e.ID == id {
					return b.Template
				}
			}
		}
	}
	return ""
}
