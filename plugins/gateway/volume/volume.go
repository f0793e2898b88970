package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

var (
	// ErrRange means that a request reaches outside the volume.
	ErrRange = errors.New("outside the volume")
	// ErrClosed means that the volume has been closed.
	ErrClosed = errors.New("volume is closed")
	// ErrOtherVolume means that the disk holds another volume.
	ErrOtherVolume = errors.New("disk holds another volume")
)

// Options of Open. Zero values of the tuning fields mean the defaults.
type Options struct {
	Name  string
	Size  int64 // in bytes, a multiple of 4096
	Disk  log.Disk
	Store objstore.Store
	Log   *slog.Logger

	// LogSize is how much of a blank disk becomes the write log; default half of it, at most 4 GiB.
	LogSize int64
	// MaxAge bounds how long an acknowledged write waits for its batch to be cut; default 5 s.
	MaxAge time.Duration
	// MaxBatch bounds a batch in bytes of log; default 8 MiB.
	MaxBatch int64
	// ReadTimeout bounds how long a miss waits for the store; default 30 s.
	ReadTimeout time.Duration

	mutant     mutant
	firstPause time.Duration // see remote.Options
}

// mutant is a deliberate break that tests must notice; only this package's tests can set it.
type mutant uint8

const mutantReclaimDirty mutant = 1 // S2: the log is freed up to what is durable, not confirmed

const (
	defaultMaxAge      = 5 * time.Second
	defaultMaxBatch    = 8 << 20
	defaultReadTimeout = 30 * time.Second
	maxLogSize         = 4 << 30
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
	if o.LogSize <= 0 {
		o.LogSize = min(o.Disk.Size()/2, maxLogSize) &^ (blockSize - 1)
	}
}

// Volume is an open cached volume.
type Volume struct {
	o      Options
	log    *log.Log
	remote *remote.Remote
	index  *index
	over   overlay
	cache  *cache
	writer *log.Committer
	scrap  sync.Pool // aligned scratch buffers of scratchSize

	flights flights
	count   counters

	failure   atomic.Pointer[error]
	admitted  chan struct{} // closed when writes may begin
	admitOnce sync.Once

	up   progress
	cut  chan struct{} // pokes the uploader
	tidy chan struct{} // pokes the keeper

	ctx        context.Context // of everything in the background
	stop       context.CancelFunc
	stopWriter context.CancelFunc
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
	return v, nil
}

func sameVolume(sb *log.Superblock, o *Options) error {
	if sb.Label != o.Name {
		return fmt.Errorf("disk holds volume %q: choose another disk, or erase this one with ratchetctl hw claim DISK --erase: %w", sb.Label, ErrOtherVolume)
	}
	if sb.UserSize != o.Size {
		return fmt.Errorf("disk holds it with %d bytes, configured are %d: %w", sb.UserSize, o.Size, remote.ErrSize)
	}
	return nil
}

// prepare takes the volume over in the store and formats the disk to continue its history.
func prepare(ctx context.Context, o *Options) (*remote.Remote, error) {
	var uuid [16]byte
	_, _ = rand.Read(uuid[:])
	r := o.remote(uuid)
	if err := r.Probe(ctx); err != nil {
		return nil, fmt.Errorf("probe store: %w", err)
	}
	head, err := r.Takeover(ctx, remote.Local{})
	if err != nil {
		return nil, err
	}
	if err := r.Load(ctx); err != nil {
		return nil, err
	}
	slots := o.Disk.Size() / cellSize
	state, err := emptyState(known{epoch: head.Epoch, confirmed: head.Seq}, o.Size, func(cell uint64) (uint16, error) {
		if !r.MayHold(cell / manifest.CellsPerChunk) {
			return 0, nil
		}
		return r.Mask(ctx, cell)
	})
	if err != nil {
		return nil, err
	}
	_, err = log.Format(o.Disk, log.FormatOptions{
		UUID: uuid, Label: o.Name, UserSize: o.Size, LogSize: o.LogSize, CheckpointSize: maxState(o.Size, slots),
		FirstSeq: head.Seq + 1,
		State:    state,
	})
	if err != nil {
		return nil, err
	}
	o.Log.Info("formatted disk", "volume", o.Name, "epoch", head.Epoch, "restored_seq", head.Seq)
	return r, nil
}

func (o *Options) remote(uuid [16]byte) *remote.Remote {
	return remote.New(remote.Options{Store: o.Store, Volume: o.Name, Size: o.Size, Owner: hex.EncodeToString(uuid[:]), FirstPause: o.firstPause})
}

// open replays the log of a formatted disk and starts the workers. attached is the remote that
// was taken over already, or nil.
func open(o Options, attached *remote.Remote) (*Volume, error) {
	l, err := log.Open(o.Disk, log.Options{})
	if err != nil {
		return nil, err
	}
	sb := l.Superblock()
	v := &Volume{
		o: o, log: l, remote: attached, index: newIndex(o.Size), cache: newCache(o.Disk, sb.Data),
		over: overlay{blocks: make(map[uint64][]patch)}, admitted: make(chan struct{}),
		cut: make(chan struct{}, 1), tidy: make(chan struct{}, 1),
	}
	v.scrap.New = func() any { b := log.AlignedBuffer(scratchSize); return &b }
	v.flights.cells = make(map[uint64]*flight)
	k, err := decodeState(l.State(), v.index, v.cache)
	if err != nil {
		return nil, fmt.Errorf("read checkpoint: %w", err)
	}
	var oldest time.Time
	err = l.Replay(func(g *log.Group) error {
		if oldest.IsZero() && g.Seq > k.confirmed {
			oldest = time.Unix(0, g.Time)
		}
		return v.replay(g, sb.UserSize)
	})
	if err != nil {
		return nil, err
	}
	v.cache.restore()
	v.up.init(k, l.Tail(), l.DurableSeq(), oldest)
	if v.remote == nil {
		v.remote = o.remote(sb.UUID)
	}
	v.ctx, v.stop = context.WithCancel(context.Background())
	// A failed volume must let go of writers that wait for room in the log.
	writing, stopWriter := context.WithCancel(v.ctx)
	v.stopWriter = stopWriter
	v.writer = log.NewCommitter(l, v.publish)
	v.start(func() {
		if err := v.writer.Run(writing); err != nil {
			v.fail(err)
		}
	})
	v.start(func() { v.upload(attached != nil) })
	v.start(v.keep)
	return v, nil
}

func (v *Volume) start(fn func()) {
	v.workers.Add(1)
	go func() {
		defer v.workers.Done()
		fn()
	}()
}

// admit lets writes begin.
func (v *Volume) admit() { v.admitOnce.Do(func() { close(v.admitted) }) }

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
func (v *Volume) Size() int64 { return v.o.Size }

// Name of the volume.
func (v *Volume) Name() string { return v.o.Name }

// Close ends service. What was acknowledged is durable already; what was not uploaded will be
// after the next Open. Disk and store are the caller's to close afterwards.
func (v *Volume) Close() error {
	closed := ErrClosed
	v.failure.CompareAndSwap(nil, &closed)
	v.stop()
	v.admit()
	v.up.broadcast()
	v.workers.Wait()
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
