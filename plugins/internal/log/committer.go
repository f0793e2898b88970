package log

import (
	"context"
	"sync"
)

// Committer collects records from many goroutines into groups and commits one group at a time:
// while one is being synced the next one fills, so that one sync serves many writers.
type Committer struct {
	log     *Log
	publish func(*Group)

	mu     sync.Mutex
	open   *Batch
	flying int64 // bytes of the batch that Run is committing
	spare  *Batch
	err    error
	// changed is closed and replaced when there may be room again.
	changed chan struct{}
	wake    chan struct{}
}

// Batch is a group to be; Submit returns the one that took the record.
type Batch struct {
	b    *Builder
	done chan struct{}
	err  error
}

// Wait returns when the batch is durable and published, with nil, or when it never will be. The
// end of ctx only ends the waiting: the records may still become durable.
func (b *Batch) Wait(ctx context.Context) error {
	select {
	case <-b.done:
		return b.err
	default:
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// NewCommitter returns the log's writer. publish is called for every durable group, in order, before
// its writers are told; the group's Data is valid only inside. Run must be started.
func NewCommitter(l *Log, publish func(*Group)) *Committer {
	c := &Committer{log: l, publish: publish, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
	c.open, c.spare = newBatch(NewBuilder()), newBatch(NewBuilder())
	l.freed = func() {
		c.mu.Lock()
		c.signal()
		c.mu.Unlock()
	}
	return c
}

func newBatch(b *Builder) *Batch { return &Batch{b: b, done: make(chan struct{})} }

func (c *Committer) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Submit adds r to the open batch; its data has been copied when it returns. While the log is full
// it waits for space or the end of ctx.
func (c *Committer) Submit(ctx context.Context, r Record) (*Batch, error) {
	for {
		c.mu.Lock()
		if c.err != nil {
			c.mu.Unlock()
			return nil, c.err
		}
		if b := c.open; c.fits(b, r) {
			first := b.b.Empty()
			b.b.add(r)
			c.mu.Unlock()
			if first {
				c.poke()
			}
			return b, nil
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fits says whether r has room in b, and the log has room for b with it behind what flies.
func (c *Committer) fits(b *Batch, r Record) bool {
	n, ok := b.b.grown(r)
	return ok && c.log.durablePos.Load()+c.flying+n <= c.log.tailPos.Load()+c.log.sb.Log.Len
}

func (c *Committer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Flush returns when everything submitted before the call is durable.
func (c *Committer) Flush(ctx context.Context) error {
	c.mu.Lock()
	b, err := c.open, c.err
	if err != nil {
		c.mu.Unlock()
		return err
	}
	if b.b.Empty() {
		// The spare batch is away exactly while it is being committed.
		if c.spare != nil {
			c.mu.Unlock()
			return c.log.Err()
		}
		// Joining the open batch would wait for a group that may never come; the
		// committing one ends with a signal.
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
			return c.Flush(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.mu.Unlock()
	return b.Wait(ctx)
}

// Run commits until ctx ends or the log fails. It first commits what is already submitted;
// afterwards every Submit returns ErrClosed or the log's error.
func (c *Committer) Run(ctx context.Context) error {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return c.close(c.step(), ErrClosed)
		}
		if err := c.step(); err != nil {
			return c.close(err, err)
		}
	}
}

// step commits batches until none is waiting.
func (c *Committer) step() error {
	for {
		c.mu.Lock()
		b := c.open
		if b.b.Empty() {
			c.mu.Unlock()
			return nil
		}
		c.open, c.spare, c.flying = c.spare, nil, b.b.Bytes()
		c.signal()
		c.mu.Unlock()

		g, err := c.log.commit(b.b)
		if err == nil {
			c.publish(g)
		}
		b.err = err
		b.b.Reset()

		c.mu.Lock()
		c.flying, c.spare = 0, newBatch(b.b)
		c.signal()
		c.mu.Unlock()
		close(b.done)
		if err != nil {
			return err
		}
	}
}

// close fails what is submitted from now on and what is still in the open batch.
func (c *Committer) close(result, reason error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = reason
	if result != nil {
		c.err = result
	}
	c.open.err = c.err
	close(c.open.done)
	c.signal()
	return result
}
