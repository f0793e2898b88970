package volume

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/gateway/upload"
	"github.com/ratchetos/ratchet/plugins/internal/log"
)

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
		c.buf = make([]byte, g.Len)
	}
	var have int64 // of the group, the part read last
	for i := range g.Records {
		r := &g.Records[i]
		if r.Kind == log.Zero {
			continue
		}
		at := r.Pos - g.Pos
		if have < at+r.Len {
			// Up to the end of the last record that follows without a gap.
			end := r.Pos + r.Len
			for j := i + 1; j < len(g.Records) && g.Records[j].Kind != log.Zero && g.Records[j].Pos-end < blockSize; j++ {
				end = g.Records[j].Pos + g.Records[j].Len
			}
			have = end - g.Pos
			if err := c.v.log.Read(c.buf[at:have], r.Pos); err != nil {
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
