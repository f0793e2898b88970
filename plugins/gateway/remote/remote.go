package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// maxGets bounds the fetches under way for one volume.
const maxGets = 8

// ErrCorrupt means that the store does not hold what a committed manifest says it holds.
var ErrCorrupt = errors.New("store is corrupt")

// Options of New.
type Options struct {
	Store  objstore.Store
	Volume string // name, also the key prefix
	Size   int64  // in bytes, a multiple of manifest.BlockSize
	Owner  string // UUID of the local disk
	// Now is the clock for people; nil means time.Now.
	Now func() time.Time
	// FirstPause is how long the store is left alone after a first failure; 0 means 100 ms. It doubles.
	FirstPause time.Duration
}

const defaultFirstPause = 100 * time.Millisecond

// Remote is one volume in an object store, for one opening of it.
type Remote struct {
	store                          objstore.Store
	volume, prefix, owner, session string
	size                           int64
	now                            func() time.Time
	breaker                        breaker
	gets                           chan struct{}

	etag string // of the head; only Takeover and Commit use it

	mu     sync.RWMutex
	head   manifest.Head
	blocks *manifest.Map // nil until loaded
	loaded chan struct{}
}

// New returns the volume without touching the store.
func New(o Options) *Remote {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.FirstPause <= 0 {
		o.FirstPause = defaultFirstPause
	}
	var session [8]byte
	_, _ = rand.Read(session[:]) // never fails since Go 1.24
	return &Remote{
		store: o.Store, volume: o.Volume, prefix: o.Volume + "/", owner: o.Owner, session: hex.EncodeToString(session[:]),
		size: o.Size, now: o.Now, breaker: breaker{first: o.FirstPause}, gets: make(chan struct{}, maxGets), loaded: make(chan struct{}),
	}
}

// Health of the store as last seen.
func (r *Remote) Health() Health { return r.breaker.health() }

// Head is the one last confirmed.
func (r *Remote) Head() manifest.Head {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.head
}

// Probe checks that the store honours conditional writes. It tries once.
func (r *Remote) Probe(ctx context.Context) error {
	return r.breaker.try(ctx, 0, r.store.Probe)
}

// Load fetches the manifest that the head names. It keeps trying while the store is down.
func (r *Remote) Load(ctx context.Context) error {
	head := r.Head()
	blocks := manifest.NewMap(r.size)
	if head.Full != "" {
		p, err := r.object(ctx, head.Full)
		if err != nil {
			return err
		}
		if blocks, err = manifest.DecodeFull(p); err != nil {
			return fmt.Errorf("%s: %w: %w", head.Full, ErrCorrupt, err)
		}
	}
	deltas := make([]*manifest.Delta, len(head.Deltas))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxGets)
	for i, key := range head.Deltas {
		g.Go(func() error {
			p, err := r.object(gctx, key)
			if err != nil {
				return err
			}
			if deltas[i], err = manifest.DecodeDelta(p); err != nil {
				return fmt.Errorf("%s: %w: %w", key, ErrCorrupt, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, d := range deltas {
		if err := blocks.Apply(d); err != nil {
			return fmt.Errorf("%s: %w: %w", head.Deltas[i], ErrCorrupt, err)
		}
	}
	if blocks.Seq() != head.Seq {
		return fmt.Errorf("manifest ends at %d, head at %d: %w", blocks.Seq(), head.Seq, ErrCorrupt)
	}
	r.mu.Lock()
	r.blocks = blocks
	r.mu.Unlock()
	close(r.loaded)
	return nil
}

// object fetches an immutable object and holds it to the hash in its key.
func (r *Remote) object(ctx context.Context, key string) ([]byte, error) {
	p, err := r.get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	sum := manifest.Sum(p)
	if !strings.HasSuffix(key, hex.EncodeToString(sum[:16])) {
		return nil, fmt.Errorf("%s: hash does not match: %w", key, ErrCorrupt)
	}
	return p, nil
}

func (r *Remote) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	var p []byte
	size := n
	if n < 0 {
		size = objstore.MaxObject // a manifest, of unknown size
	}
	err := r.breaker.retry(ctx, size, func(ctx context.Context) (err error) {
		// The slot is held per try: one that waits for the store to come back must not keep it.
		select {
		case r.gets <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-r.gets }()
		p, err = r.store.Get(ctx, key, off, n)
		return err
	})
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, fmt.Errorf("get %s: %w: %w", key, ErrCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return p, nil
}

// Cell fetches what the store holds of a cell. data is manifest.CellSize bytes with zeroes where mask
// has no bit. It keeps trying until ctx ends. The answer is current as long as Generation
// returns the same number.
func (r *Remote) Cell(ctx context.Context, n uint64) (data []byte, mask uint16, generation uint64, err error) {
	select {
	case <-r.loaded:
	case <-ctx.Done():
		return nil, 0, 0, fmt.Errorf("wait for manifest: %w", ctx.Err())
	}
	r.mu.RLock()
	frames, generation := r.blocks.Lookup(n)
	r.mu.RUnlock()
	data = make([]byte, manifest.CellSize)
	parts := make([][]byte, len(frames))
	g, ctx := errgroup.WithContext(ctx)
	for i := range frames {
		g.Go(func() error {
			f := &frames[i]
			p, err := r.get(ctx, f.Object.Key, int64(f.Offset), int64(f.Length))
			if err != nil {
				return err
			}
			if parts[i], err = f.Open(p); err != nil {
				return fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, 0, 0, fmt.Errorf("fetch cell %d: %w", n, err)
	}
	for i := range frames {
		frames[i].Copy(data, parts[i])
		mask |= frames[i].Live
	}
	return data, mask, generation, nil
}

// Generation changes when a commit changes the cell.
func (r *Remote) Generation(n uint64) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.blocks == nil {
		return 0
	}
	_, g := r.blocks.Lookup(n)
	return g
}

// Loaded reports whether the manifest is here.
func (r *Remote) Loaded() bool {
	select {
	case <-r.loaded:
		return true
	default:
		return false
	}
}

// Mask tells which blocks of a cell the store holds. Load must have returned.
func (r *Remote) Mask(n uint64) uint16 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.blocks.Mask(n)
}
