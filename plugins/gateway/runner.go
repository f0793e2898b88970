package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/gateway/attach"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/volume"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/ring"
	"github.com/ratchetos/ratchet/plugins/internal/log/slice"
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
	name      string
	at        int          // in the configuration that core handed things out for
	config    VolumeConfig // under mu; changes with Configure
	disk      *localDisk
	ring      plugin.Handle // memory that outlives the process
	claims    *claims
	pipelines *pipeline.Scheduler
	faces     *faces
	keeper    *attach.Keeper
	log       *slog.Logger
	pace      pace
	traffic   traffic
	changed   func() // something worth reporting happened
	scrubs    *scrubs
	scrubNow  chan scrubOrder    // has room for one
	quit      context.CancelFunc // ends trying
	ended     chan struct{}      // closed when nobody tries any more
	// scrubAsked counts the orders that are not carried out yet.
	scrubAsked atomic.Int32
	changing   sync.Mutex // held while settings change, and while a volume becomes the runner's; before mu

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

// run tries until the volume is up, ctx ends, or trying again cannot help.
func (r *runner) run(ctx context.Context) {
	defer close(r.ended)
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
	for _, e := range []error{volume.ErrOtherVolume, remote.ErrSize, remote.ErrKey, errNoKey, log.ErrMediaCorrupt, log.ErrTooNew, log.ErrOldFormat, log.ErrTooLarge, volume.ErrShrink, slice.ErrTooNew, slice.ErrDamaged, slice.ErrForeign, slice.ErrNoRoom, errRetired} {
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
	r.changing.Lock()
	defer r.changing.Unlock()
	if err == nil { // its settings may have changed on the way
		if err = r.bring(ctx, v, r.settings()); err != nil {
			err = errors.Join(err, v.Close())
		}
	}
	r.mu.Lock()
	first := r.err == nil || err == nil || r.err.Error() != err.Error()
	r.err = err
	var foreign *errForeign
	switch {
	case err == nil:
		r.volume, r.took = v, time.Since(start)
		r.keeper.Serve(r.name, v)
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
		r.log.Info("volume serves", "volume", r.name, "took", time.Since(start))
	case first && ctx.Err() == nil:
		r.log.Warn("volume is not up", "volume", r.name, "state", state, "error", err)
	}
	r.changed()
	return err
}

func (r *runner) bringUp(ctx context.Context) (*volume.Volume, error) {
	c := r.settings()
	key, err := r.key(ctx, c.Encryption)
	if err != nil {
		return nil, err
	}
	r.pace.set(c.Upload.Bandwidth)
	if err := r.disk.have(ctx, r.claims); err != nil {
		return nil, err
	}
	d, err := r.disk.slice(r.name)
	if err != nil {
		return nil, err
	}
	if r.store == nil {
		if r.store, err = r.openStore(ctx, c.Store); err != nil {
			return nil, err
		}
	}
	window, err := r.mapRing()
	if err != nil {
		return nil, err
	}
	return volume.Open(ctx, volume.Options{
		Name: r.name, Size: int64(c.Size), Disk: d, Store: r.store, Log: r.log,
		Window: window, Secret: key, ReadAhead: c.readAhead(), MaxAge: time.Duration(c.Upload.MaxAge),
		MaxBatch: int64(c.Upload.MaxBatch), ReadTimeout: time.Duration(c.ReadTimeout), Hold: c.Upload.Hold, Pace: r.pace.wait,
		Pipelines: r.pipelines,
	})
}

// key is that of encryption, nil for none.
func (r *runner) key(ctx context.Context, c EncryptionConfig) ([]byte, error) {
	var h plugin.Handle
	if c.KeyFile != "" {
		var err error
		if h, err = r.claims.get(ctx, wantKey(r.at)); err != nil {
			return nil, fmt.Errorf("the encryption key cannot be had: %w", err)
		}
	}
	return c.open(h)
}

func (r *runner) openStore(ctx context.Context, c driver.Config) (objstore.Store, error) {
	if c.Driver == "dir" {
		h, err := r.claims.get(ctx, wantStore(r.at))
		if err != nil {
			return nil, fmt.Errorf("the directory of the store cannot be had: %w", err)
		}
		c.Root = h.File
	}
	s, err := driver.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return counted{s, &r.traffic}, nil
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
func (c VolumeConfig) readAhead() int64 {
	switch n := c.ReadAhead; {
	case n == nil:
		return 0
	case *n == 0:
		return -1
	default:
		return int64(*n)
	}
}

// settings are the volume's as they are now.
func (r *runner) settings() VolumeConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
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
	return r.end()
}

// end closes what is open. It needs mu.
func (r *runner) end() error {
	var errs []error
	if r.volume != nil {
		r.faces.remove(r.name)
		r.keeper.Leave(r.name)
		errs = append(errs, r.volume.Close())
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	return errors.Join(errs...)
}
