package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/hw/disk"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/filedisk"
	"github.com/ratchetos/ratchet/plugins/internal/log/ring"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/driver"
)

// Back-off while a volume cannot be brought up, and how often a foreign disk is looked at again.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

// States that a volume has before package volume knows it.
const (
	stateStarting   = "starting"
	stateNeedsClaim = "needs-claim"
	stateWaiting    = "waiting"
)

// runner brings one volume up and keeps it exported.
type runner struct {
	config    VolumeConfig
	disk      plugin.Handle
	cached    plugin.Handle // the disk once more, for reads through the page cache
	ring      plugin.Handle // memory that outlives the process
	dir       plugin.Handle // of a dir store
	key       []byte        // of encryption, nil for none
	pipelines *pipeline.Scheduler
	faces     *faces
	log       *slog.Logger
	changed   func() // something worth reporting happened

	mu      sync.Mutex
	state   string // before volume is set
	err     error
	took    time.Duration
	store   objstore.Store
	window  []byte // the ring, mapped as long as the process lives: a late reader may look into it
	volume  *volume.Volume
	exports []*nbd.Export
	moved   chan struct{} // closed after a try, for those who wait for the volume
}

// errForeign is a disk with content that is not ours.
type errForeign struct{ kind, id string }

func (e *errForeign) Error() string {
	return fmt.Sprintf("disk holds %s and is left alone: to erase it run  ratchetctl hw claim %s --erase", e.kind, e.id)
}

// run tries until the volume is up, ctx ends, or trying again cannot help.
func (r *runner) run(ctx context.Context) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		err := r.open(ctx)
		if err == nil || ctx.Err() != nil || hopeless(err) {
			return
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func hopeless(err error) bool {
	for _, e := range []error{volume.ErrOtherVolume, remote.ErrSize, log.ErrMediaCorrupt, log.ErrTooNew, log.ErrOldFormat, log.ErrTooLarge, volume.ErrShrink} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// open is one try.
func (r *runner) open(ctx context.Context) error {
	start := time.Now()
	v, err := r.bringUp(ctx)
	r.mu.Lock()
	first := r.err == nil || err == nil || r.err.Error() != err.Error()
	r.err = err
	var foreign *errForeign
	switch {
	case err == nil:
		r.volume, r.took = v, time.Since(start)
		r.exports, err = r.faces.add(r.config, v, r.window != nil)
	case errors.As(err, &foreign):
		r.state = stateNeedsClaim
	case hopeless(err):
		r.state = string(volume.Failed)
	default:
		r.state = stateWaiting
	}
	state := r.state
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
	r.mu.Unlock()
	switch {
	case err == nil:
		r.log.Info("volume serves", "volume", r.config.Name, "took", time.Since(start))
	case first && ctx.Err() == nil:
		r.log.Warn("volume is not up", "volume", r.config.Name, "state", state, "error", err)
	}
	r.changed()
	return err
}

func (r *runner) bringUp(ctx context.Context) (*volume.Volume, error) {
	d, err := filedisk.New(r.disk.File, filedisk.Options{Cached: r.cached.File})
	if err != nil {
		return nil, err
	}
	if _, err := log.Probe(d); errors.Is(err, log.ErrNotFormatted) {
		if err := blank(d, r.disk.ID); err != nil {
			return nil, err
		}
	}
	if r.store == nil {
		c := r.config.Store
		c.Root = r.dir.File
		if r.store, err = driver.Open(ctx, c); err != nil {
			return nil, err
		}
	}
	window, err := r.mapRing()
	if err != nil {
		return nil, err
	}
	return volume.Open(ctx, volume.Options{
		Name: r.config.Name, Size: int64(r.config.Size), Disk: d, Store: r.store, Log: r.log,
		Window: window, Secret: r.key, ReadAhead: r.readAhead(), MaxAge: time.Duration(r.config.Upload.MaxAge),
		MaxBatch: int64(r.config.Upload.MaxBatch), ReadTimeout: time.Duration(r.config.ReadTimeout), Hold: r.config.Upload.Hold,
		Pipelines: r.pipelines,
	})
}

// mapRing returns the memory that core holds for the volume, nil if there is none. Its size may be that of an
// earlier configuration: a change waits for a clean end.
func (r *runner) mapRing() ([]byte, error) {
	if r.window != nil || r.ring.File == nil {
		return r.window, nil
	}
	m, err := ring.Map(r.ring.File)
	if err != nil {
		return nil, err
	}
	r.window = m.Memory()
	return r.window, nil
}

// readAhead is the volume's option: configured nothing means the default, 0 means none.
func (r *runner) readAhead() int64 {
	switch n := r.config.ReadAhead; {
	case n == nil:
		return 0
	case *n == 0:
		return -1
	default:
		return int64(*n)
	}
}

// blankProbe is what must be zero at both ends of a disk that nobody has a known format on.
const blankProbe = 1 << 20

// blank returns nil for a disk that nobody uses.
func blank(d *filedisk.Disk, id string) error {
	if ours, err := log.Unfinished(d); ours || err != nil {
		return err
	}
	kind, err := disk.Signature(d, d.Size())
	if err != nil {
		return err
	}
	if kind != "" {
		return &errForeign{kind, id}
	}
	n := min(blankProbe, d.Size()) &^ (log.BlockSize - 1)
	p := log.AlignedBuffer(int(n))
	for _, off := range []int64{0, (d.Size() - n) &^ (log.BlockSize - 1)} {
		if _, err := d.ReadAt(p, off); err != nil {
			return fmt.Errorf("read disk: %w", err)
		}
		for _, b := range p {
			if b != 0 {
				return &errForeign{"unknown data", id}
			}
		}
	}
	return nil
}

// formatted reports whether the disk is ours already, so that opening it needs no store.
func (r *runner) formatted() bool {
	d, err := filedisk.New(r.disk.File, filedisk.Options{Cached: r.cached.File})
	if err != nil {
		return false
	}
	_, err = log.Probe(d)
	return err == nil
}

// current returns the open volume, or nil and what is to be said instead.
func (r *runner) current() (v *volume.Volume, state string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.volume, r.state, r.err
}

// close ends the volume. No open is under way any more.
func (r *runner) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.volume != nil {
		r.faces.remove(r.config.Name)
		errs = append(errs, r.volume.Close())
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	return errors.Join(errs...)
}
