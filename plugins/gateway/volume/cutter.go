package volume

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/upload"
	"github.com/ratchetos/ratchet/plugins/gateway/upload/line"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// maxBatchRecords bounds a batch of very small or very long records.
const maxBatchRecords = 8192

// tidyEvery is how often the store is looked after while there is nothing to upload, and tidyAfter after how many batches
// when there always is.
const (
	tidyEvery = time.Second
	tidyAfter = 32
)

// After so many bytes have been uploaded, and a moment in which nothing was written, memory is given back.
const (
	restAfter = 4 << 20
	restSoon  = 100 * time.Millisecond
)

// cutter cuts the log into batches for the upload. It is ahead of the confirmed cursor by what is on its way.
type cutter struct {
	v       *Volume
	at      log.Cursor // everything before it has been cut
	oldest  int64      // when the first write behind it was acknowledged, at the latest, while something is on its way
	batches int
	waited  time.Duration // since the last cut was made
	worn    int64         // bytes cut since it has rested
	pool    upload.Pool   // of batches
	buf     []byte        // of what is read from the disk for one
	flying  atomic.Int32  // cuts on their way
	chores  atomic.Bool   // one of them is housekeeping
}

var _ line.Source = (*cutter)(nil)

func (v *Volume) newCutter() *cutter {
	c, _ := v.up.snapshot()
	return &cutter{v: v, at: c}
}

// Base implements line.Source.
func (c *cutter) Base(ctx context.Context, block uint64) ([]byte, error) {
	return c.v.stored(ctx, block)
}

// Cut implements line.Source.
func (c *cutter) Cut(ctx context.Context) (*line.Cut, error) {
	for {
		began := time.Now()
		due, err := c.waitDue(ctx)
		c.waited += time.Since(began)
		if err != nil {
			return nil, err
		}
		switch {
		case c.v.storeResizes() && !c.chores.Load():
			return c.chore(func() error { return c.v.insist(c.v.ctx, c.v.resizeStore) }), nil
		case (!due || c.batches >= tidyAfter) && !c.chores.Load():
			c.batches = 0
			return c.chore(c.v.tidyStore), nil
		case !due:
			continue
		}
		if cut, err := c.next(); cut != nil || err != nil {
			return cut, err
		}
	}
}

// chore is something that only the committing goroutine may do, when its turn comes.
func (c *cutter) chore(do func() error) *line.Cut {
	c.chores.Store(true)
	return c.cut(nil, func() error {
		defer c.chores.Store(false)
		return do()
	})
}

func (c *cutter) cut(b *upload.Batch, then func() error) *line.Cut {
	c.flying.Add(1)
	waited := c.waited
	c.waited = 0
	return &line.Cut{Batch: b, Waited: waited, Then: func(context.Context) error {
		defer c.flying.Add(-1)
		return then()
	}}
}

// next collects a batch, or passes over what needs no upload. It returns nil when there is neither.
func (c *cutter) next() (*line.Cut, error) {
	v := c.v
	if end, clean := v.cleanUpTo(c.at.Pos); clean {
		if end.Pos <= c.at.Pos {
			return nil, nil
		}
		c.at = end
		return c.cut(nil, func() error {
			head := v.remote.Head()
			if err := v.confirmed(end, head.Seq, head.Epoch, 0, 0); err != nil {
				v.o.Log.Debug("cannot note that nothing is dirty", "volume", v.o.Name, "error", err)
			}
			return nil
		}), nil
	}
	// Only what is durable may leave: the store must never be ahead of the disk (S8).
	if err := v.log.Flush(v.ctx); err != nil {
		return nil, v.explain(err)
	}
	now := time.Now().UnixNano()
	col := collector{v: v, batch: c.pool.New(min(v.head.Load()-c.at.Pos, v.o.MaxBatch)), buf: c.buf}
	next, err := v.log.Scan(c.at, log.ScanOptions{Headers: true}, col.take)
	c.buf = col.buf
	if err != nil || col.batch.Last() == 0 {
		col.batch.Free()
		return nil, err
	}
	c.worn += next.Pos - c.at.Pos
	if early := v.early.Load(); early != nil {
		col.batch.Add(&log.Group{Seq: col.batch.Last(), Records: []log.Record{*early}})
	}
	// What the scan has not seen is younger.
	c.at, c.oldest = next, now
	if col.oldest != 0 {
		c.oldest = col.oldest
	}
	c.batches++
	batch, bytes := col.batch, col.batch.Bytes()
	if col.dirty == 0 {
		batch.Free()
		batch = nil
	}
	oldest, then := col.oldest, c.oldest
	return c.cut(batch, func() error {
		if oldest == 0 && v.dirty.Load() > next.Pos {
			oldest = then
		}
		head := v.remote.Head()
		return v.confirmed(next, head.Seq, head.Epoch, bytes, oldest)
	}), nil
}

// cleanUpTo returns the end of what is durable, and whether nothing between at and there changes the volume. Only under mu
// do the two belong together: a record may be durable before the append that made it has said that it is dirty.
func (v *Volume) cleanUpTo(at int64) (end log.Cursor, clean bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.log.Durable(), v.dirty.Load() <= at
}

// collector makes a batch of groups.
type collector struct {
	v      *Volume
	batch  *upload.Batch
	dirty  int   // records that change the volume
	oldest int64 // time of the first group that was not taken
	buf    []byte
}

// take adds a group, or ends the scan when the batch is full.
func (c *collector) take(g *log.Group) error {
	if b := c.batch; b.Last() != 0 && (b.Bytes()+g.Len > c.v.o.MaxBatch || b.Records()+len(g.Records) > maxBatchRecords) {
		c.oldest = g.Time
		return log.ErrStop
	}
	// What was only fetched is not read again: its payload may be rotten without any harm.
	part := *g
	part.Records = c.dirtyOf(g)
	if len(part.Records) > 0 {
		if err := c.load(&part); err != nil {
			return err
		}
		c.dirty += len(part.Records)
	}
	c.batch.Add(&part)
	return nil
}

func (c *collector) dirtyOf(g *log.Group) []log.Record {
	list := g.Records[:0]
	for _, r := range g.Records {
		if r.Kind != log.Fill {
			list = append(list, r)
		}
	}
	return list
}

// load reads the payload of a group's records, from the window while it is there, and checks it.
func (c *collector) load(g *log.Group) error {
	if int64(len(c.buf)) < g.Len {
		c.buf = log.AlignedBuffer(int(g.Len))
	}
	var have int64 // of the group, the part read last
	for i := range g.Records {
		r := &g.Records[i]
		if r.Kind == log.Zero {
			continue
		}
		at := r.Pos - g.Pos
		if have < at+r.Len {
			// Up to the end of the last record that follows without a gap, in whole blocks.
			end := r.Pos + r.Len
			for j := i + 1; j < len(g.Records) && g.Records[j].Kind != log.Zero && g.Records[j].Pos-end < blockSize; j++ {
				end = g.Records[j].Pos + g.Records[j].Len
			}
			from := at &^ (blockSize - 1)
			have = (end - g.Pos + blockSize - 1) &^ (blockSize - 1)
			if err := c.v.log.ReadOnce(c.buf[from:have], g.Pos+from); err != nil {
				return fmt.Errorf("batch: %w", err)
			}
		}
		r.Data = c.buf[at : at+r.Len]
		if !intact(r) {
			return fmt.Errorf("batch: record at %d of the log, for %d+%d: %w", r.Pos, r.Off, r.Len, ErrRotten)
		}
	}
	return nil
}

// intact holds a record's data to its checksums.
func intact(r *log.Record) bool {
	if r.Kind == log.Patch {
		return log.Checksum(r.Data) == r.Sums[0]
	}
	for i, sum := range r.Sums {
		if log.Checksum(r.Data[i*blockSize:(i+1)*blockSize]) != sum {
			return false
		}
	}
	return true
}

// waitDue returns true when there is a batch to cut, or clean data to pass, and false when there has been
// nothing to do for a while.
func (c *cutter) waitDue(ctx context.Context) (bool, error) {
	v := c.v
	idle := time.NewTimer(tidyEvery)
	defer idle.Stop()
	batch := min(v.o.MaxBatch, v.log.Size()/4)
	for {
		_, wanted := v.up.snapshot()
		wake := int64(math.MaxInt64)
		if !v.hold.Load() {
			wake = c.at.Pos + batch
		}
		v.cutAt.Store(wake) // before the look: a write that it does not see wakes us
		dirty := v.dirty.Load()
		var timer <-chan time.Time
		if !v.hold.Load() {
			age := time.Since(time.Unix(0, c.oldestTime()))
			switch {
			case dirty <= c.at.Pos && v.head.Load()-c.at.Pos >= v.o.MaxBatch && v.log.Durable().Pos > c.at.Pos:
				return true, nil // the tail may want to go there
			case dirty <= c.at.Pos:
			case dirty-c.at.Pos >= batch, wanted > c.at.Pos, age >= v.o.MaxAge:
				return true, nil
			default:
				timer = time.After(v.o.MaxAge - age)
			}
		}
		if timer == nil {
			// Writes do not wake us one by one.
			timer = time.After(min(v.o.MaxAge, time.Second))
		}
		if v.storeResizes() && !c.chores.Load() {
			return false, nil
		}
		tired := c.worn >= restAfter && dirty <= c.at.Pos
		if tired {
			timer = time.After(restSoon)
		}
		select {
		case <-v.cut:
		case <-timer:
			if tired && c.flying.Load() == 0 && v.dirty.Load() == dirty {
				c.rest()
			}
		case <-idle.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// rest gives back what uploads have used. Left alone, an idle heap would keep it for minutes.
func (c *cutter) rest() {
	c.worn, c.buf = 0, nil
	c.pool.Drop()
	c.v.remote.Rest()
	debug.FreeOSMemory()
}

// oldestTime is about when the oldest write that has not been cut was acknowledged.
func (c *cutter) oldestTime() int64 {
	if c.flying.Load() > 0 {
		return c.oldest
	}
	return c.v.up.oldestTime()
}

// tidyStore does a piece of housekeeping in the store.
func (v *Volume) tidyStore() error {
	_, err := v.remote.Tidy(v.ctx)
	if err == nil || v.hopeless(err) {
		return err
	}
	v.o.Log.Warn("cannot tidy up the store", "volume", v.o.Name, "error", err)
	return nil
}
