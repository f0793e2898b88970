package log

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Options of Open; the zero value works.
type Options struct {
	// Now stamps groups. nil means time.Now.
	Now func() time.Time

	mutant mutant
}

// Log is an open write log. See the package comment for who may call what.
type Log struct {
	disk   Disk
	sb     *Superblock
	now    func() time.Time
	mutant mutant
	state  []byte // the checkpoint's, until Replay is over

	// syncing serialises Sync with the decision to poison. With two syncs at once the kernel
	// may give a write's error to the one and success to the other, which would acknowledge it.
	syncing sync.Mutex
	failure atomic.Pointer[error]

	head       Cursor // the writer's; it is where Replay ended and then moves by commits
	durablePos atomic.Int64
	durableSeq atomic.Uint64

	checkpointing sync.Mutex
	generation    uint64 // of the last checkpoint
	tail          Cursor // under checkpointing
	tailPos       atomic.Int64
	// freed is called after the tail has moved.
	freed func()
}

// Open reads the superblocks and the newest checkpoint. It writes nothing.
func Open(d Disk, o Options) (*Log, error) {
	sb, err := Probe(d)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	c, err := newestCheckpoint(d, sb)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{disk: d, sb: sb, now: o.Now, mutant: o.mutant, state: c.state, generation: c.generation, head: c.tail, tail: c.tail}
	if l.now == nil {
		l.now = time.Now
	}
	l.tailPos.Store(c.tail.Pos)
	l.durablePos.Store(c.tail.Pos)
	l.durableSeq.Store(c.durable)
	return l, nil
}

// State is the owner's state in the checkpoint that Open found. It is valid until Replay.
func (l *Log) State() []byte { return l.state }

// Superblock describes the disk.
func (l *Log) Superblock() Superblock { return *l.sb }

// Epoch of this opening.
func (l *Log) Epoch() uint64 { return l.sb.Epoch }

// Replay hands every group after the checkpoint to fn, in order, then makes the new epoch
// durable. It must be called once, before anything else but State. After an error nothing
// has been written and the log must not be used.
func (l *Log) Replay(fn func(*Group) error) error {
	known := l.durableSeq.Load()
	epoch := l.sb.Epoch
	s := l.scanner(l.tail.Pos + l.sb.Log.Len)
	for {
		g, err := s.next(l.head)
		if errors.Is(err, errInvalid) {
			if err := l.checkBreak(s, known); err != nil {
				return err
			}
			break
		}
		if err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		if err := fn(g); err != nil {
			return fmt.Errorf("replay group %d: %w", g.Seq, err)
		}
		l.head, epoch = g.after(), max(epoch, g.Epoch)
	}
	l.state = nil
	// What replay could read is on the medium or in the kernel's cache: the sync below makes
	// it durable along with the epoch, so that it may be uploaded and marked.
	l.sb.Epoch, l.sb.Generation = epoch+1, l.sb.Generation+1
	if l.mutant == mutantKeepEpoch {
		l.sb.Epoch = max(epoch, 1)
	}
	if err := l.sb.write(l.disk); err != nil {
		return fmt.Errorf("new epoch: %w", err)
	}
	l.setDurable(l.head)
	return nil
}

// checkBreak decides whether the end of the log at head is where the last writer stopped.
func (l *Log) checkBreak(s *scanner, known uint64) error {
	if l.mutant == mutantTruncate {
		return nil
	}
	broken := l.head.Seq <= known
	if !broken {
		var err error
		if broken, err = s.brokenBelow(l.head); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
	}
	if broken {
		return fmt.Errorf("replay: group %d at position %d: %w", l.head.Seq, l.head.Pos, ErrMediaCorrupt)
	}
	return nil
}

func (l *Log) setDurable(c Cursor) {
	l.durableSeq.Store(c.Seq - 1)
	l.durablePos.Store(c.Pos)
}

// commit writes the builder's records as one group and returns when it is durable. Only
// the writer may call it.
func (l *Log) commit(b *Builder) (*Group, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	if l.head.Pos+b.Bytes() > l.tailPos.Load()+l.sb.Log.Len {
		return nil, fmt.Errorf("commit of %d bytes: log is full", b.Bytes())
	}
	g := &Group{
		Epoch: l.sb.Epoch, Seq: l.head.Seq, Prev: l.head.Prev, Pos: l.head.Pos,
		Durable: l.durableSeq.Load(), Time: l.now().UnixNano(),
	}
	if err := l.writeRing(b.seal(g, l.sb.tag()), g.Pos); err != nil {
		return nil, l.poison(fmt.Errorf("write group %d: %w", g.Seq, err))
	}
	if err := l.Sync(); err != nil {
		return nil, err
	}
	l.head = g.after()
	l.setDurable(l.head)
	return g, nil
}

// Sync makes everything written to the disk durable. The first failure is for good.
func (l *Log) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if err := l.disk.Sync(); err != nil && l.mutant != mutantForgiveSync {
		return l.poison(fmt.Errorf("sync: %w", err))
	}
	return nil
}

func (l *Log) poison(cause error) error {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	l.failure.CompareAndSwap(nil, &err)
	return *l.failure.Load()
}

// Err is not nil once the log is poisoned.
func (l *Log) Err() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Checkpoint makes state and everything written to the disk before the call durable, and then
// frees the log before tail. state together with a replay from tail must give the present
// state. An error of ErrTooLarge changes nothing; any other poisons the log.
func (l *Log) Checkpoint(tail Cursor, state []byte) error {
	l.checkpointing.Lock()
	defer l.checkpointing.Unlock()
	if tail.Pos < l.tail.Pos || tail.Pos > l.durablePos.Load() {
		return fmt.Errorf("checkpoint: tail %d is not between %d and %d", tail.Pos, l.tail.Pos, l.durablePos.Load())
	}
	if BlockSize+roundUp(int64(len(state))) > l.sb.Checkpoint[0].Len {
		return fmt.Errorf("checkpoint of %d bytes: %w", len(state), ErrTooLarge)
	}
	// What the checkpoint refers to must not be newer on the disk than the checkpoint itself.
	if err := l.Sync(); err != nil {
		return err
	}
	c := checkpoint{generation: l.generation + 1, tail: tail, durable: l.durableSeq.Load(), state: state}
	if err := c.write(l.disk, l.sb); err != nil {
		return l.poison(err)
	}
	if l.mutant != mutantReuseEarly {
		if err := l.Sync(); err != nil {
			return err
		}
	}
	l.generation, l.tail = c.generation, tail
	l.tailPos.Store(tail.Pos)
	if l.freed != nil {
		l.freed()
	}
	return nil
}

// Tail is where the log begins.
func (l *Log) Tail() Cursor {
	l.checkpointing.Lock()
	defer l.checkpointing.Unlock()
	return l.tail
}

// Holds reports whether what was at pos when it was written is still there. A reader
// calls it after reading: only a true answer makes the data valid.
func (l *Log) Holds(pos int64) bool { return pos >= l.tailPos.Load() }

// TailPos is Tail's position; it never waits for a checkpoint under way.
func (l *Log) TailPos() int64 { return l.tailPos.Load() }

// DurableSeq is the highest sequence number known durable.
func (l *Log) DurableSeq() uint64 { return l.durableSeq.Load() }

// DurablePos is the position behind the last durable group.
func (l *Log) DurablePos() int64 { return l.durablePos.Load() }

// Used is the number of bytes between tail and the last durable group.
func (l *Log) Used() int64 { return l.durablePos.Load() - l.tailPos.Load() }

// Size of the log in bytes.
func (l *Log) Size() int64 { return l.sb.Log.Len }

// ReadAt reads whole blocks of the log from pos into an aligned buffer. See Holds.
func (l *Log) ReadAt(p []byte, pos int64) error { return l.readRing(p, pos) }

func (l *Log) readRing(p []byte, pos int64) error {
	return l.ring(p, pos, l.disk.ReadAt)
}

func (l *Log) writeRing(p []byte, pos int64) error {
	return l.ring(p, pos, l.disk.WriteAt)
}

// ring does one transfer as two where the log wraps around.
func (l *Log) ring(p []byte, pos int64, do func([]byte, int64) (int, error)) error {
	for len(p) > 0 {
		off := pos % l.sb.Log.Len
		n := min(int64(len(p)), l.sb.Log.Len-off)
		if _, err := do(p[:n], l.sb.Log.Off+off); err != nil {
			return err
		}
		p, pos = p[n:], pos+n
	}
	return nil
}
