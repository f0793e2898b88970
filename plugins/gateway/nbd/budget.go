package nbd

import (
	"context"
	"sync"
	"sync/atomic"
)

// budget bounds the parked requests of one connection. Only the reader acquires.
type budget struct {
	shared *memory

	mu       sync.Mutex
	changed  sync.Cond // on mu
	ops      int
	bytes    int
	maxOps   int
	maxBytes int
}

func (b *budget) init(maxOps, maxBytes int, shared *memory) {
	b.maxOps, b.maxBytes, b.shared = maxOps, maxBytes, shared
	b.changed.L = &b.mu
}

// tryAcquire takes room for one request with bytes of data if there is some. A request
// larger than the whole budget passes when it is alone.
func (b *budget) tryAcquire(bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.fits(bytes) || !b.shared.try(bytes) {
		return false
	}
	b.take(bytes)
	return true
}

// acquire is tryAcquire that waits. When ctx has ended nothing has been taken, and it says why.
func (b *budget) acquire(ctx context.Context, bytes int) error {
	defer context.AfterFunc(ctx, b.wake)()
	b.mu.Lock()
	for !b.fits(bytes) && ctx.Err() == nil {
		b.changed.Wait()
	}
	b.mu.Unlock()
	// Nobody else takes of this budget, so what fits now fits after the wait for what is shared.
	if !b.shared.wait(ctx, bytes) {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	b.take(bytes)
	b.mu.Unlock()
	return nil
}

// wake has those who wait look again.
func (b *budget) wake() {
	b.mu.Lock()
	b.changed.Broadcast()
	b.mu.Unlock()
	b.shared.wake()
}

func (b *budget) fits(bytes int) bool {
	return b.ops == 0 || b.ops < b.maxOps && b.bytes+bytes <= b.maxBytes
}

func (b *budget) take(bytes int) {
	b.ops++
	b.bytes += bytes
}

func (b *budget) release(ops, bytes int) {
	if ops == 0 {
		return
	}
	b.mu.Lock()
	b.ops -= ops
	b.bytes -= bytes
	b.changed.Broadcast()
	b.mu.Unlock()
	b.shared.release(bytes)
}

// busy reports whether a parked request has not been answered.
func (b *budget) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ops > 0
}

// waitIdle returns when every parked request has been answered.
func (b *budget) waitIdle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.ops > 0 {
		b.changed.Wait()
	}
}

// memory bounds the data of the parked requests of all connections of a listener. What a write holds it gives back by
// itself when its data have come; what a read holds it gives back when the client takes the reply. Some clients never send
// the one or take the other. So while somebody waits, press is in force.
type memory struct {
	max   int
	press func(on bool)
	spilt atomic.Int64 // beside it: bytes that spills hold

	mu      sync.Mutex
	changed sync.Cond // on mu
	used    int
	waiting int
}

func newMemory(limit int, press func(on bool)) *memory {
	m := &memory{max: limit, press: press}
	m.changed.L = &m.mu
	return m
}

// try takes n bytes if they are free and nobody waits for some. More than there is in all passes when nothing else is
// taken.
func (m *memory) try(n int) bool {
	if n == 0 {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting == 0 && m.take(n)
}

func (m *memory) take(n int) bool {
	if m.used > 0 && m.used+n > m.max {
		return false
	}
	m.used += n
	return true
}

// wait is try that waits, for ctx at most.
func (m *memory) wait(ctx context.Context, n int) bool {
	if ctx.Err() != nil {
		return false
	}
	if m.try(n) {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waiting++
	if m.waiting == 1 {
		m.press(true)
	}
	taken := false
	for ctx.Err() == nil && !taken {
		if taken = m.take(n); !taken {
			m.changed.Wait()
		}
	}
	m.waiting--
	if m.waiting == 0 {
		m.press(false)
	}
	return taken
}

func (m *memory) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed.Broadcast()
}

func (m *memory) release(n int) {
	if n == 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= n
	if m.waiting > 0 {
		m.changed.Broadcast()
	}
}
