package log

import "sync/atomic"

type counters struct {
	groups, writes, bytes, syncs, flushes, drained atomic.Int64
}

// Stats count since the log was opened.
type Stats struct {
	Records, Groups int64
	Writes          int64 // to the disk
	Bytes           int64 // in them
	Syncs           int64
	Flushes         int64 // asked for
	Drained         int64 // groups that Recover found in the window only
}

// Stats may be called at any time.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	records := l.flushes.total
	l.mu.Unlock()
	return Stats{
		Records: records, Groups: l.count.groups.Load(), Writes: l.count.writes.Load(),
		Bytes: l.count.bytes.Load(), Syncs: l.count.syncs.Load(), Flushes: l.count.flushes.Load(), Drained: l.count.drained.Load(),
	}
}
