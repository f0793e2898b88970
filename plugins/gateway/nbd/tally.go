package nbd

import "time"

// tally counts what a connection's reader has answered at once until the replies leave: one look at the clock and
// a few additions for a burst, where each request would need its own. All of a burst are taken to have come with its
// first request, as they nearly did.
type tally struct {
	began time.Time // zero between bursts
	ops   [2]uint64 // of READ and WRITE
	bytes [2]uint64
}

// add counts one success.
func (t *tally) add(cmd Command, n uint32) {
	t.ops[cmd]++
	t.bytes[cmd] += uint64(n)
}

// arrived returns when the burst of a request that was just read began.
func (t *tally) arrived() time.Time {
	if t.began.IsZero() {
		t.began = time.Now()
	}
	return t.began
}

// settle moves the counts into those of the export. The burst goes on.
func (t *tally) settle(stats *Stats) {
	if t.ops == [2]uint64{} {
		return
	}
	took := time.Since(t.began)
	for cmd, ops := range t.ops {
		if ops > 0 {
			stats.commands[cmd].recordMany(ops, t.bytes[cmd], took)
		}
	}
	*t = tally{began: t.began}
}

// end ends the burst.
func (t *tally) end() { t.began = time.Time{} }
