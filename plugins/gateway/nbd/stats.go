package nbd

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Buckets is the number of buckets of a latency histogram: bucket i counts operations that
// took less than 1 µs << i, the last one all others.
const Buckets = 26

// OpStats count the operations of one command.
type OpStats struct {
	ops    atomic.Uint64
	bytes  atomic.Uint64
	errors atomic.Uint64
	nanos  atomic.Uint64
	hist   [Buckets]atomic.Uint64
}

func (o *OpStats) record(bytes uint32, d time.Duration, failed bool) {
	o.recordMany(1, uint64(bytes), d)
	if failed {
		o.errors.Add(1)
	}
}

// recordMany counts operations that took equally long, together of so many bytes.
func (o *OpStats) recordMany(ops, bytes uint64, d time.Duration) {
	d = max(d, 0)
	o.ops.Add(ops)
	o.bytes.Add(bytes)
	o.nanos.Add(ops * uint64(d))
	o.hist[min(bits.Len64(uint64(d/time.Microsecond)), Buckets-1)].Add(ops)
}

// Stats count what an export has done. All of it may be read while it is served.
type Stats struct {
	commands    [CmdBlockStatus + 1]OpStats
	parked      atomic.Int64
	connections atomic.Int64
}

// OpCount is a copy of the counters of one command.
type OpCount struct {
	Ops, Bytes, Errors uint64
	Total              time.Duration // sum of the latencies, request read to reply ready
	Latency            [Buckets]uint64
}

// Quantile returns an upper bound of the q-quantile of the latencies, 0 without any.
func (c OpCount) Quantile(q float64) time.Duration {
	var seen uint64
	for i, n := range c.Latency {
		if seen += n; n > 0 && float64(seen) >= q*float64(c.Ops) {
			return time.Microsecond << i
		}
	}
	return 0
}

// Snapshot is a copy of the counters of an export, by command.
type Snapshot struct {
	Read, Write, Flush, Trim, WriteZeroes, BlockStatus, Cache OpCount

	InFlight    int64 // requests that are parked
	Connections int64
}

// Snapshot copies the counters. They are not read in one instant.
func (s *Stats) Snapshot() Snapshot {
	return Snapshot{
		Read: s.count(CmdRead), Write: s.count(CmdWrite), Flush: s.count(CmdFlush),
		Trim: s.count(CmdTrim), WriteZeroes: s.count(CmdWriteZeroes),
		BlockStatus: s.count(CmdBlockStatus), Cache: s.count(CmdCache),
		InFlight: s.parked.Load(), Connections: s.connections.Load(),
	}
}

func (s *Stats) count(cmd Command) OpCount {
	o := &s.commands[cmd]
	c := OpCount{Ops: o.ops.Load(), Bytes: o.bytes.Load(), Errors: o.errors.Load(), Total: time.Duration(o.nanos.Load())}
	for i := range o.hist {
		c.Latency[i] = o.hist[i].Load()
	}
	return c
}
