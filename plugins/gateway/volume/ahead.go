package volume

import (
	"context"

	"github.com/ratchetos/ratchet/core/pipeline"
)

const (
	// aheadFetches is how many cells are fetched ahead at once, aheadKeeps how many of them are put into the log.
	aheadFetches = 32
	aheadKeeps   = 2
)

// newReadAhead makes the pipeline of what is fetched before anybody asks for it. What a client waits for does not go through
// it, and what stands in its queue when a client comes is taken out of it.
func (v *Volume) newReadAhead() *pipeline.Pipeline {
	p := v.o.Pipelines.New("read-ahead "+v.o.Name, pipeline.Options{Memory: max(v.o.ReadAhead, cellSize)})
	in, queue := pipeline.Inlet[*flight](p, pipeline.Stage{Name: "want", Queue: int(max(v.ahead.limit, 1))})
	v.fetches = in
	fetched := pipeline.Expand(queue, pipeline.Stage{Name: "fetch", Waits: true, Limit: aheadFetches}, func(_ context.Context, f *flight) ([]*flight, error) {
		if !v.takeOff(f) {
			return nil, nil
		}
		v.fly(f)
		return []*flight{f}, nil
	})
	pipeline.Each(fetched, pipeline.Stage{Name: "keep", Waits: true, Limit: aheadKeeps}, func(_ context.Context, f *flight) error {
		v.keepCell(f)
		v.land(f)
		return nil
	})
	return p
}

// takeOff reports whether a flight was still in the queue, and takes it out.
func (v *Volume) takeOff(f *flight) bool {
	v.flights.mu.Lock()
	defer v.flights.mu.Unlock()
	was := f.queued
	f.queued = false
	return was
}

// runReadAhead ends with the volume.
func (v *Volume) runReadAhead(p *pipeline.Pipeline) {
	_ = p.Run(v.ctx) // its stages return no errors, and that the volume has ended is known
	v.flights.mu.Lock()
	defer v.flights.mu.Unlock()
	// What stood in its queues never lands; nobody waits for it.
	for cell, f := range v.flights.cells {
		if f.ahead {
			delete(v.flights.cells, cell)
		}
	}
}

// readAhead starts what the policy wants after a miss of cells first to last.
func (v *Volume) readAhead(first, last uint64) {
	from, n := v.ahead.miss(first, last)
	v.fetchAhead(from, n)
}

// used notes the first read of a block that was fetched ahead.
func (v *Volume) used(block uint64) {
	cell := block / cellBlocks
	if block%cellBlocks == 0 { // one block speaks for its cell
		v.ahead.used(1)
	}
	from, n := v.ahead.hit(cell)
	v.fetchAhead(from, n)
}

func (v *Volume) fetchAhead(from, n uint64) {
	cells := uint64(v.Size()+cellSize-1) / cellSize
	for c := from; c < from+n && c < cells; c++ {
		v.flights.mu.Lock()
		busy := uint64(v.flights.ahead) >= v.ahead.limit
		v.flights.mu.Unlock()
		if busy {
			return
		}
		if v.wanted(c, c*cellBlocks, min(c*cellBlocks+cellBlocks, v.index.Blocks())-1) {
			v.begin(c, true)
		}
	}
}
