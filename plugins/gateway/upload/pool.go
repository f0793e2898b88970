package upload

import (
	"slices"
	"sync"
)

// pooled is how many batches a pool keeps: one is packed while the next is cut.
const pooled = 2

// Pool keeps the memory of a volume's batches for those that come after them, until it is told that none will come
// soon. sync.Pool would not do: batches are so large that the collector would empty it before the next one is made.
// The zero value is an empty pool; any goroutine may use it.
type Pool struct {
	mu   sync.Mutex
	free []*Batch
}

// New returns an empty batch with memory for about so many bytes of content.
func (p *Pool) New(size int64) *Batch {
	p.mu.Lock()
	n := len(p.free)
	if n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return b
	}
	p.mu.Unlock()
	b := New()
	b.home, b.blocks = p, slices.Grow(b.blocks, int(size))
	return b
}

func (p *Pool) put(b *Batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < pooled {
		p.free = append(p.free, b)
	}
}

// Drop lets the memory go that no batch uses.
func (p *Pool) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = nil
}
