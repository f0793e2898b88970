package flowsync

import "time"

// maxTries bounds how often a batch is sent; a peer that acknowledges none of them is out of step.
const maxTries = 4

// Window holds what the peer has not acknowledged yet. The zero value is not usable; see NewWindow. It is not safe for
// concurrent use.
type Window struct {
	size    int
	pending []Record
	flying  map[uint64]*batch
	next    uint64
	lost    bool
}

type batch struct {
	records []Record
	due     time.Duration
	tries   int
}

// Send is a batch that is to be sent now.
type Send struct {
	ID      uint64
	Records []Record
}

// NewWindow makes a window of so many batches, with as many records waiting behind it.
func NewWindow(size int) *Window {
	return &Window{size: size, flying: map[uint64]*batch{}}
}

// Add takes records. When there are more than the window holds it drops all and is out of step.
func (w *Window) Add(records []Record) {
	if w.lost {
		return // the full pass will bring them
	}
	w.pending = append(w.pending, records...)
	if len(w.pending) > w.size*MaxBatch {
		w.overrun()
	}
}

func (w *Window) overrun() {
	w.lost = true
	w.pending = nil
	clear(w.flying)
}

// Step returns what is to be sent: batches that are due again after gap, then new ones. wait is when to step next, at
// the latest; 0 when nothing is flying.
func (w *Window) Step(now, gap time.Duration) (out []Send, wait time.Duration) {
	for id, b := range w.flying {
		if b.due > now {
			if wait == 0 || b.due-now < wait {
				wait = b.due - now
			}
			continue
		}
		if b.tries++; b.tries > maxTries {
			w.overrun()
			return nil, 0
		}
		b.due = now + gap
		out = append(out, Send{id, b.records})
	}
	for len(w.flying) < w.size && len(w.pending) > 0 {
		n := min(len(w.pending), MaxBatch)
		w.next++
		b := &batch{records: append([]Record(nil), w.pending[:n]...), due: now + gap, tries: 1}
		w.flying[w.next] = b
		w.pending = append(w.pending[:0], w.pending[n:]...)
		out = append(out, Send{w.next, b.records})
	}
	if wait == 0 && len(w.flying) > 0 || wait > gap {
		wait = gap
	}
	return out, wait
}

// Acknowledged takes the peer's word for a batch.
func (w *Window) Acknowledged(id uint64) { delete(w.flying, id) }

// InStep is false from an overrun until Restart.
func (w *Window) InStep() bool { return !w.lost }

// Restart begins anew: the peer takes a full pass after this moment.
func (w *Window) Restart() {
	w.lost = false
	w.pending = nil
	clear(w.flying)
}

// Waiting is how many records are not acknowledged.
func (w *Window) Waiting() int {
	n := len(w.pending)
	for _, b := range w.flying {
		n += len(b.records)
	}
	return n
}
