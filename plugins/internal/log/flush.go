package log

import (
	"cmp"
	"context"
	"errors"
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
	for {
		if err := l.Err(); err != nil {
			return err
		}
		if l.isDurable(pos, mark) {
			return nil
		}
		l.turn.Lock()
		flying := l.flying
		if flying == nil {
			l.turn.Unlock()
			if done, err := l.lead(pos, mark); done || err != nil {
				return err
			}
			continue
		}
		l.turn.Unlock()
		// The flush under way may not cover this one: let Run write while it syncs.
		l.poke(orderAll)
		select {
		case <-flying:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Log) isDurable(pos, mark int64) bool {
	return l.durablePos.Load() >= pos && l.durableMarks.Load() >= mark
}

// lead carries out one flush for everybody, unless one is under way. done means that pos and
// mark are durable.
func (l *Log) lead(pos, mark int64) (done bool, err error) {
	flying := make(chan struct{})
	l.turn.Lock()
	if l.flying != nil {
		l.turn.Unlock()
		return false, nil
	}
	l.flying = flying
	l.turn.Unlock()
	if !l.isDurable(pos, mark) { // or another one has just ended
		err = l.writeOut(true)
		if err == nil || errors.Is(err, ErrLogFull) { // no room for the mark is no reason to lose the rest
			err = cmp.Or(l.syncWritten(), err)
		}
	}
	l.turn.Lock()
	l.flying = nil
	l.turn.Unlock()
	close(flying)
	if l.isDurable(pos, mark) {
		return true, nil
	}
	return false, err
}

// ahead flushes what nobody has asked to be flushed yet. While another flush is under way it only
// writes, so that the next one has less to do.
func (l *Log) ahead() error {
	l.turn.Lock()
	busy := l.flying != nil
	l.turn.Unlock()
	if busy {
		return l.writeOut(true)
	}
	l.mu.Lock()
	pos := l.head()
	l.mu.Unlock()
	if l.isDurable(pos, 0) {
		return nil
	}
	_, err := l.lead(pos, 0)
	return err
}

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
