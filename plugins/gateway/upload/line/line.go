package line

import (
	"context"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/upload"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
)

// Cut is a piece of the log to upload, or something else to do when its turn comes.
type Cut struct {
	// Batch is what is uploaded, nil for nothing. The line owns it from now on.
	Batch *upload.Batch
	// Then is called after the head that covers the cut is committed, on one goroutine for all cuts.
	Then func(context.Context) error
	// Waited is how long there was nothing to cut before it.
	Waited time.Duration

	number uint64
	bytes  int64
}

// Bytes implements pipeline.Sized: memory is held for a cut until it is packed.
func (c *Cut) Bytes() int64 { return c.bytes }

// Idle implements pipeline.Awaited.
func (c *Cut) Idle() time.Duration { return c.Waited }

// Source is where cuts come from.
type Source interface {
	// Cut waits until one is due and returns it. One call at a time is made, in the order of the log. All of a cut
	// must be durable here (S8).
	Cut(ctx context.Context) (*Cut, error)
	// Base returns a block as the store has it at its head.
	Base(ctx context.Context, block uint64) ([]byte, error)
}

// Store is the volume's remote side. An error of any of its methods ends the line.
type Store interface {
	NewObject() *manifest.Writer
	Put(ctx context.Context, b *remote.Batch) error
	Commit(ctx context.Context, b *remote.Batch) error
}

var _ Store = (*remote.Remote)(nil)

// puts is how many objects are sent at once: enough that a round trip does not leave the line idle.
const puts = 4

// packed is a cut that is ready for the store.
type packed struct {
	cut   *Cut
	batch *remote.Batch // nil when the cut has none
}

// Bytes implements pipeline.Sized: what is sent.
func (p *packed) Bytes() int64 {
	if p.batch == nil || p.batch.Object == nil {
		return 0
	}
	return int64(p.batch.Object.Len())
}

// line is one run.
type line struct {
	source Source
	store  Store
	cuts   uint64 // made so far; only the cut stage uses it

	mu        sync.Mutex
	committed uint64
	moved     chan struct{} // closed and replaced when committed grows
}

// Run uploads until ctx ends or something is for good.
func Run(ctx context.Context, s *pipeline.Scheduler, name string, o pipeline.Options, source Source, store Store) error {
	l := &line{source: source, store: store, moved: make(chan struct{})}
	p := s.New("upload "+name, o)
	cuts := pipeline.From(p, pipeline.Stage{Name: "cut", Waits: true}, l.cut)
	whole := pipeline.Map(cuts, pipeline.Stage{Name: "merge", Waits: true, Limit: 1, Queue: 1}, l.merge)
	ready := pipeline.Map(whole, pipeline.Stage{Name: "pack", Ordered: true, Queue: 1}, l.pack)
	there := pipeline.Map(ready, pipeline.Stage{Name: "put", Sends: true, Ordered: true, Limit: puts, Queue: puts}, l.put)
	pipeline.Each(there, pipeline.Stage{Name: "commit", Waits: true, Limit: 1, Queue: puts}, l.commit)
	return p.Run(ctx)
}

func (l *line) cut(ctx context.Context) (*Cut, error) {
	c, err := l.source.Cut(ctx)
	if err != nil {
		return nil, err
	}
	l.cuts++
	c.number = l.cuts
	if c.Batch != nil {
		c.bytes = c.Batch.Bytes()
	}
	return c, nil
}

func (l *line) merge(ctx context.Context, c *Cut) (*Cut, error) {
	if c.Batch == nil {
		return c, nil
	}
	blocks := c.Batch.Unresolved()
	if len(blocks) == 0 {
		return c, nil
	}
	// What is missing may be in a batch before this one.
	if err := l.wait(ctx, c.number-1); err != nil {
		return nil, err
	}
	for _, block := range blocks {
		base, err := l.source.Base(ctx, block)
		if err != nil {
			return nil, err
		}
		c.Batch.Resolve(block, base)
	}
	return c, nil
}

func (l *line) pack(_ context.Context, c *Cut) (*packed, error) {
	if c.Batch == nil {
		return &packed{cut: c}, nil
	}
	b, err := c.Batch.Pack(l.store.NewObject())
	c.Batch.Free()
	c.Batch = nil
	return &packed{c, b}, err
}

func (l *line) put(ctx context.Context, p *packed) (*packed, error) {
	if p.batch == nil {
		return p, nil
	}
	return p, l.store.Put(ctx, p.batch)
}

func (l *line) commit(ctx context.Context, p *packed) error {
	if p.batch != nil {
		if err := l.store.Commit(ctx, p.batch); err != nil {
			return err
		}
	}
	if p.cut.Then != nil {
		if err := p.cut.Then(ctx); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = p.cut.number
	close(l.moved)
	l.moved = make(chan struct{})
	return nil
}

// wait returns when a cut and all before it have been committed.
func (l *line) wait(ctx context.Context, number uint64) error {
	for {
		l.mu.Lock()
		done, moved := l.committed >= number, l.moved
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
