// Package nbdtest holds what tests of NBD servers and of their backends share: a volume in
// memory, a gate that holds back chosen requests, and a small pipelining client that checks
// what the server says against the protocol.
package nbdtest

import (
	"context"
	"sync"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
)

// page is the unit in which Memory keeps data; absent pages are holes.
const page = 4096

// Memory is a sparse volume in memory. It answers everything at once.
type Memory struct {
	size uint64
	Min  uint32 // minimum block size, 0 means 1

	mu    sync.RWMutex
	pages map[uint64]*[page]byte
	// Flushes counts Flush and operations with FUA.
	Flushes int
}

var (
	_ nbd.Backend    = (*Memory)(nil)
	_ nbd.FastReader = (*Memory)(nil)
	_ nbd.FastWriter = (*Memory)(nil)
	_ nbd.Cacher     = (*Memory)(nil)

	_ nbd.StateReporter = (*Memory)(nil)
)

// NewMemory returns an empty volume of size bytes.
func NewMemory(size uint64) *Memory {
	return &Memory{size: size, pages: make(map[uint64]*[page]byte)}
}

// Size implements nbd.Backend.
func (m *Memory) Size() uint64 { return m.size }

// BlockSize implements nbd.Backend.
func (m *Memory) BlockSize() (uint32, uint32, uint32) { return max(m.Min, 1), page, nbd.MaxRequest }

// each calls fn for the parts of [off, off+n) that lie in one page.
func each(off, n uint64, fn func(index, from, to, pos uint64)) {
	for pos := uint64(0); pos < n; {
		at := off + pos
		from := at % page
		to := min(page, from+n-pos)
		fn(at/page, from, to, pos)
		pos += to - from
	}
}

// TryReadAt implements nbd.FastReader.
func (m *Memory) TryReadAt(p []byte, off uint64) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	each(off, uint64(len(p)), func(index, from, to, pos uint64) {
		dst := p[pos : pos+to-from]
		if pg := m.pages[index]; pg != nil {
			copy(dst, pg[from:to])
		} else {
			clear(dst)
		}
	})
	return true
}

// ReadAt implements nbd.Backend.
func (m *Memory) ReadAt(_ context.Context, p []byte, off uint64) error {
	m.TryReadAt(p, off)
	return nil
}

// TryWriteAt implements nbd.FastWriter.
func (m *Memory) TryWriteAt(p []byte, off uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	each(off, uint64(len(p)), func(index, from, to, pos uint64) {
		pg := m.pages[index]
		if pg == nil {
			pg = new([page]byte)
			m.pages[index] = pg
		}
		copy(pg[from:to], p[pos:])
	})
	return true
}

// WriteAt implements nbd.Backend.
func (m *Memory) WriteAt(_ context.Context, p []byte, off uint64, fua bool) error {
	m.TryWriteAt(p, off)
	return m.durable(fua)
}

func (m *Memory) durable(really bool) error {
	if really {
		m.mu.Lock()
		m.Flushes++
		m.mu.Unlock()
	}
	return nil
}

// Trim implements nbd.Backend: whole pages become holes, the rest becomes zero.
func (m *Memory) Trim(_ context.Context, off, n uint64, fua bool) error {
	m.zero(off, n, false)
	return m.durable(fua)
}

// WriteZeroes implements nbd.Backend. Allocating zeroes is as slow as writing them.
func (m *Memory) WriteZeroes(_ context.Context, off, n uint64, f nbd.ZeroFlags) error {
	keep := f&nbd.ZeroNoHole != 0
	if keep && f&nbd.ZeroFast != 0 {
		return nbd.ErrNotSupported
	}
	m.zero(off, n, keep)
	return m.durable(f&nbd.ZeroFUA != 0)
}

func (m *Memory) zero(off, n uint64, keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	each(off, n, func(index, from, to, _ uint64) {
		pg := m.pages[index]
		switch {
		case pg == nil && keep:
			m.pages[index] = new([page]byte)
		case pg == nil:
		case to-from == page && !keep:
			delete(m.pages, index)
		default:
			clear(pg[from:to])
		}
	})
}

// Flush implements nbd.Backend.
func (m *Memory) Flush(context.Context) error { return m.durable(true) }

// Cache implements nbd.Cacher: everything is local.
func (m *Memory) Cache(context.Context, uint64, uint64) error { return nil }

// BlockStatus implements nbd.Backend.
func (m *Memory) BlockStatus(_ context.Context, off, n uint64, one bool) ([]nbd.Extent, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []nbd.Extent
	each(off, n, func(index, from, to, _ uint64) {
		hole := m.pages[index] == nil
		if k := len(list); k > 0 && list[k-1].Hole == hole {
			list[k-1].Len += to - from
			return
		}
		list = append(list, nbd.Extent{Len: to - from, Hole: hole, Zero: hole})
	})
	if one {
		list = list[:1]
	}
	return list, nil
}

// StateOf implements nbd.StateReporter: what is here is nowhere else.
func (m *Memory) StateOf(ctx context.Context, off, n uint64, one bool) ([]nbd.StateExtent, error) {
	extents, err := m.BlockStatus(ctx, off, n, one)
	list := make([]nbd.StateExtent, len(extents))
	for i, e := range extents {
		list[i] = nbd.StateExtent{Len: e.Len, State: nbd.StateLocal | nbd.StateDirty}
		if e.Zero {
			list[i].State = nbd.StateZero
		}
	}
	return list, err
}
