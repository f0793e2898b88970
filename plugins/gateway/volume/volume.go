package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/core/config/strict"
	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/volume/index"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

var (
	// ErrRange means that a request reaches outside the volume.
	ErrRange = errors.New("outside the volume")
	// ErrClosed means that the volume has been closed.
	ErrClosed = errors.New("volume is closed")
	// ErrOtherVolume means that the disk holds another volume.
	ErrOtherVolume = errors.New("disk holds another volume")
	// ErrShrink means that the disk holds the volume with more bytes than it shall have.
	ErrShrink = errors.New("a volume shrinks only on request")
)

// Options of Open. Zero values of the tuning fields mean the defaults.
type Options struct {
	Name string
	// Size is in bytes, a multiple of 4096. A volume that was smaller grows to it when it is opened.
	Size  int64
	Disk  log.Disk
	Store objstore.Store
	Log   *slog.Logger

	// Window is the acknowledgement ring, see log.Options. With memory that outlives the process,
	// what TryWriteAt and WriteAt acknowledge does too. nil means memory that does not.
	Window []byte
	// Secret encrypts what goes to the store; nil for no encryption. See remote.Options.
	Secret []byte
	// MaxAge bounds how long an acknowledged write waits for its batch to be cut; default 5 s.
	MaxAge time.Duration
	// MaxBatch bounds a batch in bytes of log; default 8 MiB.
	MaxBatch int64
	// ReadTimeout bounds how long a miss waits while the store gives nothing to anybody; default 30 s.
	ReadTimeout time.Duration
	// Pace holds uploads to a schedule; see remote.Options.
	Pace func(ctx context.Context, n int64) error
	// Hold keeps back the upload until HoldUpload(false).
	Hold bool
	// ReadAhead is the most that is fetched ahead of a sequential reader, in bytes; default 8 MiB, negative
	// for none.
	ReadAhead int64
	// Pipelines runs the upload and the read-ahead, with those of other volumes; default is one of the volume's own.
	Pipelines *pipeline.Scheduler

	mutant     mutant
	segment    int64         // of the log; tests use small ones
	firstPause time.Duration // see remote.Options
}

// mutant is a deliberate break that tests must notice; only this package's tests can set it.
type mutant uint8

const (
	mutantEvictEarly  mutant = 1 + iota // S2: the log is freed up to what is durable, not confirmed
	mutantUploadEarly                   // S8: a batch takes what is not durable yet
	mutantPublishLate                   // S6: the index learns of a write after its acknowledgement
	mutantStaleFill                     // what was fetched is kept though its blocks have changed
	mutantPatchLost                     // S12: a patch is forgotten when its block is fetched
)

const (
	defaultMaxAge      = 5 * time.Second
	defaultMaxBatch    = 8 << 20
	defaultReadTimeout = 30 * time.Second
	defaultReadAhead   = 8 << 20

	segmentShare = 64        // of the disk, the most that one segment is
	minSegment   = 256 << 10 // but for tests
	// takeoverWait is how long writes wait at start for the store to confirm that the volume is
	// still ours, on a disk that owned it before. Without an answer they are admitted: the
	// epoch fences at the next upload, as it does for a gateway that was cut off while running.
	takeoverWait = 2 * time.Second
)

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxAge <= 0 {
		o.MaxAge = defaultMaxAge
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = defaultMaxBatch
	}
	if o.ReadTimeout <= 0 {
		o.ReadTimeout = defaultReadTimeout
	}
	if o.ReadAhead == 0 {
		o.ReadAhead = defaultReadAhead
	}
	if o.Pipelines == nil {
		o.Pipelines = pipeline.NewScheduler(pipeline.Limits{})
	}
}

// Volume is an open cached volume.
type Volume struct {
	o      Options
	log    *log.Log
	remote *remote.Remote
	size   atomic.Int64

	// mu makes the order of the log the order of the index. It is never held over I/O.
	mu    sync.Mutex
	index *index.Index // changed under mu, read without
	over  overlay
	blank blanks
	head  atomic.Int64 // end of what was appended
	dirty atomic.Int64 // end of the last record that the store does not have
	noted int          // cells with index.Nothing
	poked int64        // head when the cleaner was last told of it

	flights  flights
	ahead    readAhead
	fetches  *pipeline.In[*flight] // what is fetched ahead
	count    counters
	scrap    sync.Pool // *scratch
	resizing sync.Mutex
	scrubs   scrubState
	marks    marks

	early     atomic.Pointer[log.Record] // set by mutantUploadEarly alone
	failure   atomic.Pointer[error]
	open      atomic.Bool   // changes are admitted
	admitted  chan struct{} // closed when they are
	admitOnce sync.Once

	up    progress
	hold  atomic.Bool
	cut   chan struct{} // pokes the uploader
	cutAt atomic.Int64  // head at which it wants to be poked
	tidy  chan struct{} // pokes the cleaner
	clean cleaner

	ctx        context.Context // of everything in the background but the log's writer
	stop       context.CancelFunc
	writing    context.Context // ends when the log takes nothing more
	stopWriter context.CancelFunc
	writer     sync.WaitGroup
	workers    sync.WaitGroup
}

// Open brings a volume up from its disk. A blank disk is formatted and takes over what the
// store holds, which needs the store; any other disk serves at once and meets the store in
// the background. ctx bounds only the opening.
func Open(ctx context.Context, o Options) (*Volume, error) {
	o.setDefaults()
	if o.Size <= 0 || o.Size%blockSize != 0 {
		return nil, fmt.Errorf("open volume %s: size %d is not a multiple of %d", o.Name, o.Size, blockSize)
	}
	sb, err := log.Probe(o.Disk)
	fresh := errors.Is(err, log.ErrNotFormatted)
	var r *remote.Remote
	switch {
	case fresh:
		r, err = prepare(ctx, &o)
	case err == nil:
		err = sameVolume(sb, &o)
	}
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", o.Name, err)
	}
	v, err := open(o, r)
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", o.Name, err)
	}
	if o.Size > v.Size() {
		if err := v.Resize(ctx, o.Size); err != nil {
			return nil, fmt.Errorf("open volume %s: %w", o.Name, errors.Join(err, v.Close()))
		}
	}
	return v, nil
}

func sameVolume(sb *log.Superblock, o *Options) error {
	if sb.Label != o.Name {
		return fmt.Errorf("disk holds volume %q: choose another disk, or erase this one with ratchetctl hw claim DISK --erase: %w", sb.Label, ErrOtherVolume)
	}
	if sb.UserSize > o.Size {
		return fmt.Errorf("the disk holds it with %s, configured are %s: %w; configure size: %[1]s, and shrink it with ratchetctl volume resize %[4]s %[2]s --shrink",
			strict.Size(sb.UserSize), strict.Size(o.Size), ErrShrink, o.Name)
	}
	return nil
}

// prepare takes the volume over in the store and formats the disk to continue its history.
func prepare(ctx context.Context, o *Options) (*remote.Remote, error) {
	var uuid [16]byte
	_, _ = rand.Read(uuid[:])
	r := o.remote(uuid, o.Size)
	if err := r.Probe(ctx); err != nil {
		return nil, err
	}
	head, err := r.Takeover(ctx, remote.Local{})
	if err != nil {
		return nil, err
	}
	if err := r.Load(ctx); err != nil {
		return nil, err
	}
	_, err = log.Format(o.Disk, log.FormatOptions{
		UUID: uuid, Label: o.Name, UserSize: o.Size, Segment: o.segmentSize(), CheckpointSize: checkpointSize(o.Disk.Size()),
		FirstSeq: head.Seq + 1,
		Mark:     mark{epoch: head.Epoch, headSeq: head.Seq}.encode(),
		State: func(w io.Writer) error {
			return writeEmptyState(w, o.Size, func(c uint64) bool { return !r.MayHold(c) })
		},
	})
	if err != nil {
		return nil, err
	}
	o.Log.Info("formatted disk", "volume", o.Name, "epoch", head.Epoch, "restored_seq", head.Seq)
	return r, nil
}

// segmentSize is what groups are cut at. Small disks have small segments, for some of them are always reserved.
func (o *Options) segmentSize() int64 {
	if o.segment > 0 {
		return o.segment
	}
	n := int64(log.DefaultSegment)
	for n > minSegment && n > o.Disk.Size()/segmentShare {
		n /= 2
	}
	return n
}

func (o *Options) remote(uuid [16]byte, size int64) *remote.Remote {
	return remote.New(remote.Options{Store: o.Store, Volume: o.Name, Size: size, Owner: hex.EncodeToString(uuid[:]), Secret: o.Secret, Pace: o.Pace, FirstPause: o.firstPause})
}

// open replays the log of a formatted disk and starts the workers. attached is the remote that
// was taken over already, or nil.
func open(o Options, attached *remote.Remote) (*Volume, error) {
	l, err := log.Open(o.Disk, log.Options{Window: o.Window, MaxAge: min(o.MaxAge, time.Second)})
	if err != nil {
		return nil, err
	}
	sb := l.Superblock()
	v := &Volume{
		o: o, log: l, remote: attached, admitted: make(chan struct{}),
		cut: make(chan struct{}, 1), tidy: make(chan struct{}, 1),
	}
	v.size.Store(sb.UserSize)
	v.hold.Store(o.Hold)
	v.scrap.New = func() any { return new(scratch) }
	v.flights.cells = make(map[uint64]*flight)
	v.clean.init(l.Size())
	v.ahead.limit = uint64(max(o.ReadAhead, 0) / cellSize)
	if err := v.recover(); err != nil {
		return nil, err
	}
	if v.remote == nil {
		v.remote = o.remote(sb.UUID, sb.UserSize)
	}
	v.ctx, v.stop = context.WithCancel(context.Background())
	// A failed volume must let go of writers that wait for room in the log.
	v.writing, v.stopWriter = context.WithCancel(context.Background())
	v.writer.Go(func() {
		if err := l.Run(v.writing); err != nil {
			v.fail(err)
		}
	})
	reads := v.newReadAhead()
	v.workers.Go(func() { v.runReadAhead(reads) })
	v.workers.Go(func() { v.upload(attached != nil) })
	v.workers.Go(v.keep)
	return v, nil
}

// admit lets changes begin.
func (v *Volume) admit() {
	v.admitOnce.Do(func() {
		v.open.Store(true)
		close(v.admitted)
	})
}

// fail ends service for good; the first reason counts. The local data stays as it is.
func (v *Volume) fail(err error) {
	if v.failure.CompareAndSwap(nil, &err) {
		s := v.Status()
		v.o.Log.Error("volume stopped", "volume", v.o.Name, "error", err,
			"not_uploaded_from_seq", s.UploadedSeq+1, "not_uploaded_to_seq", s.DurableSeq, "dirty_bytes", s.DirtyBytes)
	}
	v.stopWriter()
	v.admit() // what waits must see the failure
	v.up.broadcast()
}

// Err is not nil once the volume serves no more.
func (v *Volume) Err() error {
	if p := v.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// Size is in bytes.
func (v *Volume) Size() int64 { return v.size.Load() }

// Name of the volume.
func (v *Volume) Name() string { return v.o.Name }

// Close ends service and makes what was acknowledged durable; what was not uploaded will be after
// the next Open. Disk, store and window are the caller's to close afterwards.
func (v *Volume) Close() error {
	closed := ErrClosed
	v.failure.CompareAndSwap(nil, &closed)
	v.stop()
	v.admit()
	v.up.broadcast()
	v.workers.Wait()
	v.stopWriter()
	v.writer.Wait()
	v.flights.wait()
	if err := v.log.Err(); err != nil {
		return fmt.Errorf("close volume %s: %w", v.o.Name, err)
	}
	return nil
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
