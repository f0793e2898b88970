package volume

import (
	"fmt"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// The keeper frees log and cache. Both cost a checkpoint, so it works in strides.
const (
	maxReplay  = 32 << 20 // confirmed groups left in the log, which an opening reads again
	idleReplay = 4 << 20  // the same once everything is uploaded
	evictShare = 16       // the share of the slots emptied at once
)

// keep runs until the volume closes.
func (v *Volume) keep() {
	for {
		select {
		case <-v.tidy:
		case <-v.ctx.Done():
			return
		}
		if err := v.tidyUp(); err != nil {
			if v.ctx.Err() == nil {
				v.fail(err)
			}
			return
		}
	}
}

// wantsRoom says whether the log should be freed: too much of it is clean, or it is filling up.
func (v *Volume) wantsRoom() bool {
	c := v.reclaimable()
	clean := c.Pos - v.log.TailPos()
	limit := min(int64(maxReplay), v.log.Size()/4)
	if v.log.DurablePos() == c.Pos {
		limit = min(limit, idleReplay)
	}
	return clean > limit || clean > 0 && v.log.Used() > v.log.Size()/2
}

// reclaimable is how far the log may be freed: to what a confirmed head covers (S2).
func (v *Volume) reclaimable() log.Cursor {
	c, _ := v.up.snapshot()
	if v.o.mutant == mutantReclaimDirty {
		c, _ = v.log.Scan(c, func(*log.Group) error { return nil })
	}
	return c
}

func (v *Volume) tidyUp() error {
	if v.wantsRoom() {
		if err := v.reclaim(v.reclaimable()); err != nil {
			return err
		}
	}
	if v.cache.low() {
		return v.makeRoom()
	}
	return nil
}

// makeRoom evicts and makes the slots reusable.
func (v *Volume) makeRoom() error {
	if free, quarantine := v.cache.room(); free+quarantine < v.cache.stride() {
		v.cache.evict(v.index, v.cache.stride()-free-quarantine)
	}
	return v.checkpoint(v.log.Tail())
}

// checkpoint makes the present state durable and with it the tail.
func (v *Volume) checkpoint(tail log.Cursor) error {
	_, k := v.up.snapshot()
	v.cache.mu.Lock()
	state := encodeState(k, v.index, v.cache)
	waiting := len(v.cache.quarantine)
	v.cache.mu.Unlock()
	if err := v.log.Checkpoint(tail, state); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	v.cache.settled(waiting)
	return nil
}

// reclaim moves what is still current in the log before end into the cache, and then the tail to end.
func (v *Volume) reclaim(end log.Cursor) error {
	m := mover{v: v, cells: make(map[uint64]*load)}
	c := v.log.Tail()
	for c.Pos < end.Pos {
		next, err := v.log.Scan(c, func(g *log.Group) error {
			if g.Pos >= end.Pos || len(m.cells) >= maxLoad {
				return log.ErrStop
			}
			m.take(g)
			return nil
		})
		if err != nil {
			return err
		}
		if err := m.place(); err != nil {
			return err
		}
		c = next
		if v.ctx.Err() != nil {
			return v.ctx.Err()
		}
	}
	return v.checkpoint(end)
}

// maxLoad is about how many cells are moved together.
const maxLoad = 128

// mover carries live blocks from the log to the cache, cell by cell.
type mover struct {
	v     *Volume
	cells map[uint64]*load
}

type load struct {
	data []byte
	want [cellBlocks]entry
}

// take picks the blocks of a group that the index still points at.
func (m *mover) take(g *log.Group) {
	for _, r := range g.Records {
		if r.Kind != log.Write {
			continue
		}
		first := uint64(r.Off) / blockSize
		for i := range uint64(r.Len) / blockSize {
			e := logEntry(r.Pos + int64(i)*blockSize)
			if m.v.index.get(first+i).base() != e {
				continue
			}
			cell, in := (first+i)/cellBlocks, (first+i)%cellBlocks
			l := m.cells[cell]
			if l == nil {
				l = &load{data: make([]byte, cellSize)}
				m.cells[cell] = l
			}
			copy(l.data[in*blockSize:(in+1)*blockSize], r.Data[i*blockSize:])
			l.want[in] = e
		}
	}
}

// place puts what was taken into the cache. A volume whose disk has no room for a cache
// leaves it to the store.
func (m *mover) place() error {
	v := m.v
	for cell, l := range m.cells {
		if free, _ := v.cache.room(); free == 0 && len(v.cache.slots) > 0 {
			if err := v.makeRoom(); err != nil {
				return err
			}
		}
		done, err := v.cache.fill(v.index, cell, l.data, &l.want, v.remote.Generation(cell), func() bool { return true })
		if err != nil {
			return err
		}
		if !done {
			for i, e := range l.want {
				if e != 0 {
					v.cache.toStore(v.index, cell*cellBlocks+uint64(i), e)
				}
			}
		}
		delete(m.cells, cell)
	}
	return nil
}
