package nbdtest

import (
	"context"
	"sync/atomic"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// Slow hides the fast paths of a backend: every request of it is parked.
type Slow struct{ nbd.Backend }

var (
	_ nbd.StateReporter = Slow{}
	_ nbd.Cacher        = Slow{}
)

// StateOf implements nbd.StateReporter; of a backend that does not, nothing is known.
func (s Slow) StateOf(ctx context.Context, off, n uint64, one bool) ([]nbd.StateExtent, error) {
	if r, ok := s.Backend.(nbd.StateReporter); ok {
		return r.StateOf(ctx, off, n, one)
	}
	return []nbd.StateExtent{{Len: n}}, nil
}

// Cache implements nbd.Cacher; it is only a hint.
func (s Slow) Cache(ctx context.Context, off, n uint64) error {
	if c, ok := s.Backend.(nbd.Cacher); ok {
		return c.Cache(ctx, off, n)
	}
	return nil
}

// Gate is a Memory in which reads at or behind From miss: they wait until Open is closed. Other
// reads and all writes go straight through.
type Gate struct {
	*Memory
	From uint64
	Open chan struct{}
	// Waiting is the number of reads at the gate now.
	Waiting atomic.Int64
	// Arrived gets one value for every read that comes to the gate.
	Arrived chan struct{}
}

var _ nbd.FastReader = (*Gate)(nil)

// NewGate returns a closed gate. Up to 1024 arrivals are announced without a receiver.
func NewGate(size, from uint64) *Gate {
	return &Gate{Memory: NewMemory(size), From: from, Open: make(chan struct{}), Arrived: make(chan struct{}, 1024)}
}

// TryReadAt implements nbd.FastReader.
func (g *Gate) TryReadAt(p []byte, off uint64) bool {
	return off+uint64(len(p)) <= g.From && g.Memory.TryReadAt(p, off)
}

// ReadAt implements nbd.Backend.
func (g *Gate) ReadAt(ctx context.Context, p []byte, off uint64) error {
	if off+uint64(len(p)) > g.From {
		g.Waiting.Add(1)
		defer g.Waiting.Add(-1)
		g.Arrived <- struct{}{}
		select {
		case <-g.Open:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g.Memory.ReadAt(ctx, p, off)
}
