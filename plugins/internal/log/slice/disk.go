package slice

import (
	"errors"
	"fmt"
	"sync"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// Disk is one slice.
type Disk struct {
	set  *Set
	info Info
	flow int
}

var (
	_ log.Disk         = (*Disk)(nil)
	_ log.CachedReader = (*Disk)(nil)
)

var errOutside = errors.New("outside of the slice")

// Disk opens a slice. There is one Disk for each.
func (s *Set) Disk(name string) (*Disk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, err := s.find(name)
	if err != nil {
		return nil, fmt.Errorf("open slice %s: %w", name, err)
	}
	if d := s.opened[name]; d != nil && d.info.Off == s.label.slices[i].Off && d.info.Size == s.label.slices[i].Size {
		return d, nil
	}
	d := &Disk{set: s, info: s.label.slices[i], flow: s.nextID}
	s.nextID++
	s.opened[name] = d
	s.turning.Lock()
	s.turns.setWeight(d.flow, d.info.Share)
	s.turning.Unlock()
	return d, nil
}

// Info describes the slice as it was when it was opened.
func (d *Disk) Info() Info { return d.info }

// Size is in bytes.
func (d *Disk) Size() int64 { return d.info.Size }

func (d *Disk) check(n int, off int64) error {
	if off < 0 || off > d.info.Size-int64(n) {
		return fmt.Errorf("slice %s: %d+%d: %w", d.info.Name, off, n, errOutside)
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if err := d.check(len(p), off); err != nil {
		return 0, err
	}
	return d.set.disk.ReadAt(p, d.info.Off+off)
}

// WriteAt implements io.WriterAt. It waits for the slice's turn.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	if err := d.check(len(p), off); err != nil {
		return 0, err
	}
	if err := d.set.syncs.err(); err != nil {
		return 0, err
	}
	return d.set.write(d.flow, p, d.info.Off+off)
}

// Sync makes what was written to this slice durable, and what others wrote with it.
func (d *Disk) Sync() error { return d.set.syncs.do() }

// ReadCached implements log.CachedReader; a disk that has no cached reads does them as ReadAt.
func (d *Disk) ReadCached(p []byte, off int64) error {
	if err := d.check(len(p), off); err != nil {
		return err
	}
	if d.set.cached != nil {
		return d.set.cached.ReadCached(p, d.info.Off+off)
	}
	in := off % log.BlockSize
	buf := log.AlignedBuffer((int(in) + len(p) + log.BlockSize - 1) &^ (log.BlockSize - 1))
	if _, err := d.ReadAt(buf, off-in); err != nil {
		return err
	}
	copy(p, buf[in:])
	return nil
}

// TryReadCached implements log.CachedReader.
func (d *Disk) TryReadCached(p []byte, off int64) bool {
	return d.set.cached != nil && d.check(len(p), off) == nil && d.set.cached.TryReadCached(p, d.info.Off+off)
}

// Fetch implements log.CachedReader.
func (d *Disk) Fetch(off, n int64) {
	if d.set.cached != nil && d.check(int(n), off) == nil {
		d.set.cached.Fetch(d.info.Off+off, n)
	}
}

// quantum is what one turn may write while others want theirs, in bytes.
const quantum = 512 << 10

// write writes p in as many turns as its neighbours make necessary.
func (s *Set) write(flow int, p []byte, off int64) (done int, err error) {
	turn := make(chan struct{}, 1)
	s.turning.Lock()
	n := s.share(flow, len(p))
	if !s.turns.ask(flow, int64(n), turn) {
		s.turning.Unlock()
		<-turn
		s.turning.Lock()
	}
	for {
		s.turning.Unlock()
		_, err = s.disk.WriteAt(p[done:done+n], off+int64(done))
		s.turning.Lock()
		if err != nil || done+n == len(p) {
			break
		}
		done += n
		n = s.share(flow, len(p)-done)
		if next := s.turns.again(flow, int64(n), turn); next != turn {
			next <- struct{}{}
			s.turning.Unlock()
			<-turn
			s.turning.Lock()
		}
	}
	if next, ok := s.turns.done(flow); ok {
		next <- struct{}{}
	}
	s.turning.Unlock()
	if err != nil {
		return done, err
	}
	return len(p), nil
}

// share is how much of n bytes the next turn writes.
func (s *Set) share(flow, n int) int {
	if s.turns.alone(flow) {
		return n
	}
	return min(n, quantum)
}

// syncs makes one sync of many.
type syncs struct {
	sync func() error

	mu     sync.Mutex
	flying *syncRun
	next   *syncRun // what came meanwhile
	failed error    // for good
}

type syncRun struct {
	done chan struct{}
	err  error
}

func (s *syncs) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// do returns when a sync that started after the call has ended, with its error; after one error
// there is never another success.
func (s *syncs) do() error {
	s.mu.Lock()
	if s.flying != nil {
		// The one under way may have started before what this caller wrote.
		if s.next == nil {
			s.next = &syncRun{done: make(chan struct{})}
			run, before := s.next, s.flying
			s.mu.Unlock()
			<-before.done
			return s.run(run)
		}
		run := s.next
		s.mu.Unlock()
		<-run.done
		return run.err
	}
	run := &syncRun{done: make(chan struct{})}
	s.flying = run
	s.mu.Unlock()
	return s.carryOut(run)
}

// run begins the sync that waited for the one before it.
func (s *syncs) run(run *syncRun) error {
	s.mu.Lock()
	s.flying, s.next = run, nil
	s.mu.Unlock()
	return s.carryOut(run)
}

func (s *syncs) carryOut(run *syncRun) error {
	err := s.err()
	if err == nil {
		err = s.sync()
	}
	s.mu.Lock()
	if err != nil && s.failed == nil {
		s.failed = err
	}
	run.err = s.failed
	if s.next == nil {
		s.flying = nil
	}
	s.mu.Unlock()
	close(run.done)
	return run.err
}
