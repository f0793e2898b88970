package log

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Options of Open; the zero value works.
type Options struct {
	// Window is a page and then a multiple of the log's segments, at least two, aligned to pages.
	// With memory that outlives the process it is the acknowledgement ring: given to the next
	// Open, what was appended is there again. nil means memory of the heap, of eight segments.
	Window []byte
	// Now stamps groups. nil means time.Now.
	Now func() time.Time
	// MaxAge is how long Run lets appended data wait that nobody flushes. 0 means a second,
	// negative for ever.
	MaxAge time.Duration

	mutant mutant
}

const (
	windowSegments = 8
	defaultMaxAge  = time.Second
)

// state is a place in the log together with what the groups before it say.
type state struct {
	Cursor
	tail   Cursor
	mark   Mark
	number uint64 // of the mark, counted from the opening
}

// Log is an open write log. See the package comment for who may call what.
type Log struct {
	disk   Disk
	cached CachedReader // nil if the disk has no such thing
	sb     *Superblock
	win    *window
	now    func() time.Time
	maxAge time.Duration
	mutant mutant

	checkpoints []*checkpoint // those that Open found, newest first; nil after Recover

	// syncing serialises Sync with the decision to poison. With two syncs at once the kernel
	// may give a write's error to the one and success to the other, which would acknowledge it.
	syncing sync.Mutex
	failure atomic.Pointer[error]

	// io is held by who writes groups; next is where the chain goes on.
	io   sync.Mutex
	next Cursor

	mu          sync.Mutex // everything from here to room; never held over I/O
	closed      bool
	open        openGroup
	end         int64 // behind the last closed group
	claimed     int64 // the window is given up to here
	windowFrom  int64 // it holds nothing from before
	newest      state // tail and mark as set; the Cursor is not used
	closedMarks uint64
	written     state // everything before is on the disk or in its cache
	durable     state
	flushes     predictor
	timed       bool // Run has its timer set
	room        chan struct{}
	waiting     bool // somebody waits for room

	// What is read without a lock.
	durablePos, durableMarks atomic.Int64
	durableSeq               atomic.Uint64
	lost                     atomic.Int64 // positions before may have been overwritten

	crowd crowd       // who flushes
	due   atomic.Bool // a flush is expected, and who appended the last record knows

	wake   chan struct{}
	orders atomic.Uint32

	checkpointing sync.Mutex
	generation    uint64                 // of the newest checkpoint, under checkpointing
	from          atomic.Pointer[Cursor] // where a replay would begin

	scanners sync.Pool // their buffers
	count    counters
}

// Open reads the superblocks and the headers of the checkpoints. It writes nothing.
func Open(d Disk, o Options) (*Log, error) {
	sb, err := Probe(d)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	cs, err := findCheckpoints(d, sb)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	w, err := newWindow(o.Window, sb.Segment)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	w.young.Store(math.MaxInt64)
	l := &Log{
		disk: d, sb: sb, win: w, now: o.Now, maxAge: o.MaxAge, mutant: o.mutant, checkpoints: cs, crowd: newCrowd(),
		room: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	l.cached, _ = d.(CachedReader)
	if l.now == nil {
		l.now = time.Now
	}
	if l.maxAge == 0 {
		l.maxAge = defaultMaxAge
	}
	return l, nil
}

// Superblock describes the disk.
func (l *Log) Superblock() Superblock {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *l.sb
}

// Epoch of this opening.
func (l *Log) Epoch() uint64 { return l.sb.Epoch }

// Size of the log in bytes.
func (l *Log) Size() int64 { return l.sb.Log.Len }

// Sync makes everything written to the disk durable. The first failure is for good.
func (l *Log) Sync() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	if l.mutant == mutantNoSync {
		return nil
	}
	l.count.syncs.Add(1)
	if err := l.disk.Sync(); err != nil && l.mutant != mutantForgiveSync {
		return l.poison(fmt.Errorf("sync: %w", err))
	}
	return nil
}

func (l *Log) poison(cause error) error {
	err := fmt.Errorf("%w: %w", ErrPoisoned, cause)
	l.failure.CompareAndSwap(nil, &err)
	l.mu.Lock()
	l.signal()
	l.mu.Unlock()
	l.poke(orderAll) // Run ends with it
	return *l.failure.Load()
}

// Err is not nil once the log is poisoned.
func (l *Log) Err() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// SetUserSize stores the owner's size durably. It must not be called from two goroutines at once.
func (l *Log) SetUserSize(n int64) error {
	if n < 0 {
		return errors.New("set user size: negative")
	}
	l.checkpointing.Lock() // keeps superblock writes apart, too
	defer l.checkpointing.Unlock()
	next := *l.sb
	next.UserSize, next.Generation = n, next.Generation+1
	if err := next.write(syncer{l}); err != nil {
		return l.poison(err)
	}
	l.mu.Lock()
	l.sb.UserSize, l.sb.Generation = next.UserSize, next.Generation
	l.mu.Unlock()
	return nil
}

// syncer is the log's disk with the log's Sync.
type syncer struct{ l *Log }

func (s syncer) ReadAt(p []byte, off int64) (int, error)  { return s.l.disk.ReadAt(p, off) }
func (s syncer) WriteAt(p []byte, off int64) (int, error) { return s.l.disk.WriteAt(p, off) }
func (s syncer) Size() int64                              { return s.l.disk.Size() }
func (s syncer) Sync() error                              { return s.l.Sync() }
