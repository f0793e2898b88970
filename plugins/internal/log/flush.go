package log

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// Flush returns when everything appended before the call, by whom it may be, and the newest
// mark are durable. One flush is under way at a time: callers that come while it is share the
// next one, which one of them carries out. ctx ends only the waiting.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	pos, mark := l.head(), int64(l.newest.number)
	l.flushes.flushed()
	l.mu.Unlock()
	l.count.flushes.Add(1)
	return l.flush(ctx, pos, mark)
}

// FlushTo is Flush for what lies before pos, without the mark.
func (l *Log) FlushTo(ctx context.Context, pos int64) error {
	l.count.flushes.Add(1)
	return l.flush(ctx, pos, 0)
}

func (l *Log) flush(ctx context.Context, pos, mark int64) error {
	if err := l.Err(); err != nil || l.isDurable(pos, mark) {
		return err
	}
	w, lead := l.crowd.join(pos, mark)
	if !lead {
		select {
		case v := <-w.verdict:
			lead = v.lead
			if !lead {
				return v.err
			}
		case <-ctx.Done():
			if v, told := l.crowd.desert(w); told && v.lead {
				l.crowd.over(func(*waiter) (bool, error) { return false, nil }) // somebody else's turn
			}
			return ctx.Err()
		}
	}
	l.crowd.gather()
	return l.lead(pos, mark)
}

func (l *Log) isDurable(pos, mark int64) bool {
	return l.durablePos.Load() >= pos && l.durableMarks.Load() >= mark
}

// lead carries out one flush for everybody. The caller has the turn.
func (l *Log) lead(pos, mark int64) error {
	var err error
	if !l.isDurable(pos, mark) { // a turn that was waited for may have been in vain
		err = l.writeOut(true)
		if err == nil || errors.Is(err, ErrLogFull) { // no room for the mark is no reason to lose the rest
			began := time.Now()
			err = cmp.Or(l.syncWritten(), err)
			l.crowd.took(time.Since(began))
		}
	}
	l.crowd.over(func(w *waiter) (bool, error) {
		switch {
		case l.isDurable(w.pos, w.mark):
			return true, nil
		case errors.Is(err, ErrLogFull): // but for the mark, and only to those that were served
			return l.durablePos.Load() >= w.pos, err
		default:
			return err != nil, err
		}
	})
	if l.isDurable(pos, mark) {
		return nil
	}
	return err
}

// ahead flushes what nobody has asked to be flushed yet. While others do, it only writes, so that
// the next flush has less to do.
func (l *Log) ahead() error {
	if !l.crowd.idle() {
		return l.writeOut(true)
	}
	l.mu.Lock()
	pos := l.head()
	l.mu.Unlock()
	return l.lead(pos, 0)
}

// FlushDue reports, once, that flushes came so regularly that one should follow the record that was just appended with
// Alone. The caller begins it with FlushAhead as soon as it has nothing better to do.
func (l *Log) FlushDue() bool { return l.due.Load() && l.due.CompareAndSwap(true, false) }

// FlushAhead makes durable what has been appended, so that the flush that is expected finds it done. It leaves the
// rest to others that flush. An error is kept: it is that of the next Flush.
func (l *Log) FlushAhead() { _ = l.ahead() }

// predictor finds out whether flushes come at a fixed number of records, as a database's or a
// journal's do: then the flush can begin with the record that one will follow. The zero value
// expects none.
type predictor struct {
	since, last, expect int
	total               int64 // records
}

// maxPredicted is the longest run of records between flushes that is worth guessing.
const maxPredicted = 32

// appended counts a record and reports whether a flush should follow it.
func (p *predictor) appended() bool {
	p.since++
	p.total++
	return p.since == p.expect
}

func (p *predictor) flushed() {
	if p.since == 0 {
		return
	}
	p.expect = 0
	if p.since == p.last && p.since <= maxPredicted {
		p.expect = p.since
	}
	p.last, p.since = p.since, 0
}
