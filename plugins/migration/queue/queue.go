package queue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/template"
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
	Template string `json:"template,omitempty"`
	Priority int    `json:"priority,omitempty"`
	// Rollout says in which order its entries begin; results are those that have begun.
	Rollout template.Rollout           `json:"rollout"`
	Entries []*Entry                   `json:"entries"`
	Results map[string]template.Result `json:"results,omitempty"`
	// Stopped is why what has not begun was dropped.
	Stopped string `json:"stopped,omitempty"`
}

// Entry is one move.
type Entry struct {
	ID string `json:"id"`
	VM string `json:"vm"`
	// Order is the caller's own: what to do when its turn comes.
	Order json.RawMessage `json:"order"`
}

// Single is the batch of one move.
func Single(e *Entry, priority int) *Batch {
	return &Batch{Priority: priority, Rollout: template.Rollout{Waves: [][]string{{e.ID}}}, Entries: []*Entry{e}}
}

// Open is an entry that has not ended.
type Open struct {
	*Entry
	Template string
	Why      string    // it has not begun, "" once it was handed out
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
	n := len(b.Entries)
	for _, other := range q.Batches {
		n += len(other.Entries)
	}
	if len(q.Batches) >= maxBatches || n > maxEntries {
		return ErrFull
	}
	if len(b.Entries) > 0 {
		q.Batches = append(q.Batches, b)
	}
	return nil
}

// Next hands out at most free moves of VMs that are not busy, and says when to ask again if only time is missing.
func (q *Queue) Next(now time.Time, free int, busy func(vm string) bool) (begin []*Entry, again time.Time) {
	for _, b := range q.byPriority() {
		next := b.Rollout.Next(b.Results, now)
		if u := next.Until; !u.IsZero() && (again.IsZero() || u.Before(again)) {
			again = u
		}
		for _, id := range next.Start {
			e := b.entry(id)
			taken := func(other *Entry) bool { return other.VM == e.VM }
			if e == nil || len(begin) >= free || busy(e.VM) || slices.ContainsFunc(begin, taken) {
				continue
			}
			b.set(id, template.Result{State: template.Moving})
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

func (b *Batch) entry(id string) *Entry {
	if i := slices.IndexFunc(b.Entries, func(e *Entry) bool { return e.ID == id }); i >= 0 {
		return b.Entries[i]
	}
	return nil
}

func (b *Batch) set(id string, r template.Result) {
	if b.Results == nil {
		b.Results = map[string]template.Result{}
	}
	b.Results[id] = r
}

// Ended notes that a move has. What is dropped because of it comes back; Batch.Stopped is the reason. idle tells of those that were
// handed out which have not begun: they fall, too.
func (q *Queue) Ended(id string, failed bool, now time.Time, idle func(id string) bool) (b *Batch, dropped []*Entry) {
	b = q.batch(id)
	if b == nil {
		return nil, nil
	}
	r := template.Result{State: template.Arrived, Ended: now}
	if failed {
		r.State = template.Failed
	}
	b.set(id, r)
	next := b.Rollout.Next(b.Results, now)
	if next.Stopped != "" && b.Stopped == "" {
		b.Stopped = next.Stopped
		dropped = b.waiting(idle)
		for _, e := range dropped {
			b.remove(e.ID)
		}
	}
	q.tidy(now)
	return b, dropped
}

// Cancel takes an order out that has not begun, which is no failure; nil when there is none.
func (q *Queue) Cancel(id string, now time.Time) *Entry {
	b := q.batch(id)
	if b == nil || b.Results[id].State != template.Waiting {
		return nil
	}
	e := b.entry(id)
	b.remove(id)
	q.tidy(now)
	return e
}

func (q *Queue) batch(id string) *Batch {
	for _, b := range q.Batches {
		if b.entry(id) != nil {
			return b
		}
	}
	return nil
}

func (b *Batch) remove(id string) {
	delete(b.Results, id)
	b.Entries = slices.DeleteFunc(b.Entries, func(e *Entry) bool { return e.ID == id })
	for i, w := range b.Rollout.Waves {
		b.Rollout.Waves[i] = slices.DeleteFunc(w, func(x string) bool { return x == id })
	}
}

func (b *Batch) waiting(idle func(id string) bool) (list []*Entry) {
	for _, e := range b.Entries {
		if s := b.Results[e.ID].State; s == template.Waiting || s == template.Moving && idle(e.ID) {
			list = append(list, e)
		}
	}
	return list
}

// tidy forgets batches that are through.
func (q *Queue) tidy(now time.Time) {
	q.Batches = slices.DeleteFunc(q.Batches, func(b *Batch) bool { return b.Rollout.Next(b.Results, now).Done })
}

// Reconcile is called once by a new process: what was handed out and is not known to the runner has not begun.
func (q *Queue) Reconcile(known func(id string) bool) {
	for _, b := range q.Batches {
		for id, r := range b.Results {
			if r.State == template.Moving && !known(id) {
				delete(b.Results, id)
			}
		}
	}
}

// Begun lists the IDs of what was handed out and has not ended.
func (q *Queue) Begun() (ids []string) {
	for _, b := range q.Batches {
		for _, e := range b.Entries {
			if b.Results[e.ID].State == template.Moving {
				ids = append(ids, e.ID)
			}
		}
	}
	return ids
}

// Open lists what has not ended: what waits, with the reason, and what was handed out, without one.
func (q *Queue) Open(now time.Time) (list []Open) {
	for _, b := range q.byPriority() {
		next := b.Rollout.Next(b.Results, now)
		for i, wave := range b.Rollout.Waves {
			for _, id := range wave {
				o := Open{Entry: b.entry(id), Template: b.Template}
				switch state := b.Results[id].State; {
				case state == template.Moving:
				case state != template.Waiting:
					continue
				case slices.Contains(next.Start, id):
					o.Why = "waits for its turn"
				case !next.Until.IsZero():
					o.Why, o.After = fmt.Sprintf("wave %d of %d, after a pause", i+1, len(b.Rollout.Waves)), next.Until
				default:
					o.Why = fmt.Sprintf("wave %d of %d", i+1, len(b.Rollout.Waves))
				}
				list = append(list, o)
			}
		}
	}
	return list
}

// Entry is a move that waits, is under way, or has ended while others of its batch have not; nil for none.
func (q *Queue) Entry(id string) *Entry {
	if b := q.batch(id); b != nil {
		return b.entry(id)
	}
	return nil
}

// Has says whether a move waits or is under way.
func (q *Queue) Has(id string) bool {
	b := q.batch(id)
	return b != nil && (b.Results[id].State == template.Waiting || b.Results[id].State == template.Moving)
}

// Template is that of the batch of a move, "" for none.
func (q *Queue) Template(id string) string {
	if b := q.batch(id); b != nil {
		return b.Template
	}
	return ""
}
