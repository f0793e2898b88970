// Package simdisk is a disk with a volatile write cache, for crash tests.
//
// Reads see every write at once. A crash keeps what was synced and, of the rest, any subset:
// whole writes, single sectors of a write, in any order. A failed sync loses what it should have
// made durable and says so once, as Linux does.
package simdisk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
)

// Sector is the unit that is never torn, in bytes.
const Sector = 512

// Disk is safe for use from many goroutines.
type Disk struct {
	mu      sync.Mutex
	size    int64
	stable  []byte // what a crash keeps
	cache   []byte // what reads see
	pending []span // written since the last sync, in order

	failSync  func() bool // see FailSyncs
	failWrite func() bool // see FailWrites
	budget    int         // writes and syncs until the power goes, negative for never
	dead      bool
	bad       area // cannot be read
	cutShort  int  // how much of the last write is in the cache, if the power went in it
}

type area struct{ off, n int64 }

type span struct {
	off  int64
	data []byte
}

// ErrPower is returned by everything after the power has gone.
var ErrPower = errors.New("simulated disk: no power")

// ErrIO is a failed read, write or sync.
var ErrIO = errors.New("simulated disk: input/output error")

// New returns a disk of n zero bytes.
func New(n int64) *Disk {
	return &Disk{size: n, stable: make([]byte, n), cache: make([]byte, n), budget: -1}
}

// Size is in bytes.
func (d *Disk) Size() int64 { return d.size }

// CutAfter lets the power go in the middle of the n-th write or sync from now.
func (d *Disk) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.budget = n
}

// FailSyncs sets a function that is asked at every Sync whether it fails; nil for never.
func (d *Disk) FailSyncs(f func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failSync = f
}

// FailWrites sets a function that is asked at every WriteAt whether it fails; nil for never.
func (d *Disk) FailWrites(f func() bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failWrite = f
}

// FailReads lets reads of n bytes at off fail from now on, in place of those that failed before.
func (d *Disk) FailReads(off, n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad = area{off, n}
}

func (d *Disk) spend() bool {
	if d.budget > 0 {
		d.budget--
	}
	if d.budget == 0 {
		d.dead = true
	}
	return d.dead
}

func (d *Disk) check(p []byte, off int64) error {
	if d.dead {
		return ErrPower
	}
	if off < 0 || off > d.size-int64(len(p)) {
		return fmt.Errorf("simulated disk: %d+%d is outside", off, len(p))
	}
	if off%Sector != 0 || len(p)%Sector != 0 {
		return fmt.Errorf("simulated disk: %d+%d is not aligned", off, len(p))
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(p, off); err != nil {
		return 0, err
	}
	if off < d.bad.off+d.bad.n && off+int64(len(p)) > d.bad.off {
		return 0, ErrIO
	}
	return copy(p, d.cache[off:]), nil
}

// WriteAt implements io.WriterAt. The write that the power goes in is pending, so it may be torn.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.check(p, off); err != nil {
		return 0, err
	}
	if d.failWrite != nil && d.failWrite() {
		return 0, ErrIO
	}
	d.pending = append(d.pending, span{off, slices.Clone(p)})
	if d.spend() {
		// After a power cut any part of it is there, after a kill the first half.
		d.cutShort = len(p) / 2 / Sector * Sector
		copy(d.cache[off:], p[:d.cutShort])
		return 0, ErrPower
	}
	copy(d.cache[off:], p)
	return len(p), nil
}

// Sync makes what was written durable.
func (d *Disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead || d.spend() {
		return ErrPower
	}
	if d.failSync != nil && d.failSync() {
		// The pages are marked clean though they were lost: the next sync will succeed.
		d.pending = nil
		return ErrIO
	}
	for _, s := range d.pending {
		copy(d.stable[s.off:], s.data)
	}
	d.pending = nil
	return nil
}

// Crash ends this disk and returns what the next boot finds: everything synced and a random
// part of the rest.
func (d *Disk) Crash(r *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := &Disk{size: d.size, stable: d.stable, cache: d.cache, budget: -1}
	d.dead, d.stable, d.cache = true, nil, nil // nobody reads a dead disk: its memory is the next one's
	r.Shuffle(len(d.pending), func(i, j int) { d.pending[i], d.pending[j] = d.pending[j], d.pending[i] })
	for _, s := range d.pending {
		switch r.IntN(3) {
		case 0: // lost
		case 1: // whole
			copy(next.stable[s.off:], s.data)
		case 2: // torn
			for i := 0; i < len(s.data); i += Sector {
				if r.IntN(2) == 0 {
					copy(next.stable[s.off+int64(i):], s.data[i:i+Sector])
				}
			}
		}
	}
	copy(next.cache, next.stable)
	return next
}

// Kill ends this disk for the process that uses it, which dies, and returns it as the next one finds
// it: everything written is there, but no more durable than it was.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cutShort > 0 {
		last := &d.pending[len(d.pending)-1]
		last.data = last.data[:d.cutShort]
	}
	next := &Disk{size: d.size, stable: d.stable, cache: d.cache, pending: d.pending, budget: -1}
	d.dead, d.stable, d.cache, d.pending = true, nil, nil, nil
	return next
}

// Corrupt flips a bit of the medium, as rot does.
func (d *Disk) Corrupt(off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cache[off] ^= 1
	d.stable[off] ^= 1
}
