package remote

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

const (
	// maxGets bounds the fetches under way for one volume. At a round trip of 100 ms they bring 480 misses a second.
	maxGets = 48
	// tidyGets is how many of them housekeeping, and reading the manifest, makes at once.
	tidyGets = 8
)

// ErrCorrupt means that the store does not hold what a committed manifest says it holds.
var ErrCorrupt = errors.New("store is corrupt")

// Options of New.
type Options struct {
	Store  objstore.Store
	Volume string // name, also the key prefix
	Size   int64  // in bytes, a multiple of manifest.BlockSize
	Owner  string // UUID of the local disk
	// Secret is the key that frames are encrypted with, manifest.KeySize bytes; nil for none. It cannot
	// be changed for a volume that holds something.
	Secret []byte
	// Account is the one that the provider has assigned the volume to, 0 for none.
	Account uint32
	// Grace is how long an object outlives the last reference to it; 0 means an hour. It must be longer
	// than any upload and any read may take.
	Grace time.Duration
	// LeafCache bounds the leaves of the manifest held in memory, in bytes; 0 means a default by the size.
	LeafCache int64
	// Pace is called before n bytes are uploaded and returns when they may go; nil for at once. The head
	// is not held up.
	Pace func(ctx context.Context, n int64) error
	// Now is a clock; nil means time.Now.
	Now func() time.Time
	// FirstPause is how long the store is left alone after a first failure; 0 means 100 ms. It doubles.
	FirstPause time.Duration

	mutant mutant
}

// mutant is a deliberate break that tests must notice; only this package's tests can set it.
type mutant uint8

const (
	mutantNoGrace   mutant = 1 + iota // S11: graves are deleted at once
	mutantNoRecheck                   // S11: nobody looks again before deleting
	mutantEarly                       // S11: what a step makes garbage is deleted before its head is committed
)

const (
	defaultFirstPause = 100 * time.Millisecond
	defaultGrace      = time.Hour
	minLeafCache      = 8 << 20 // as many leaves as a step fetches at once, however ragged
	maxLeafCache      = 64 << 20
	// More cells over the leaves than these are folded before the next commit.
	minPending = 16 << 10
	maxPending = 256 << 10
)

// Remote is one volume in an object store, for one opening of it.
type Remote struct {
	o               Options
	prefix, session string
	breaker         breaker
	gets            chan struct{}
	leaves          leafCache
	maxPending      int

	etag       string // of the head; this and what follows only the committing goroutine uses
	yards      []yard
	swept      place // how far orphans of earlier epochs have been looked for
	lastTidied time.Time
	tidyAt     string    // the head at which there was nothing to tidy up
	turn       int       // of the pieces of tidying
	left       uint64    // the leaf that frames were last moved out of, or looked for
	damaged    time.Time // when all that was there to move could not be read

	mu     sync.RWMutex
	head   manifest.Head
	next   uint32   // number of the next object
	spares [][]byte // memory of objects that are in the store
	usual  int      // how much the next one will need, going by the last
	sealer *manifest.Sealer
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
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	chunks := o.Size / manifest.ChunkSize
	if o.LeafCache <= 0 {
		o.LeafCache = min(max(8*chunks, minLeafCache), maxLeafCache)
	}
	var session [8]byte
	_, _ = rand.Read(session[:]) // never fails since Go 1.24
	return &Remote{
		o: o, prefix: o.Volume + "/", session: hex.EncodeToString(session[:]),
		breaker: breaker{first: o.FirstPause}, gets: make(chan struct{}, maxGets), loaded: make(chan struct{}),
		leaves: leafCache{limit: o.LeafCache}, maxPending: int(min(max(chunks/16, minPending), maxPending)),
	}
}

// Health of the store as last seen.
func (r *Remote) Health() Health { return r.breaker.health() }

// Answered is when the store last did what it was asked, some of it, or said why not; zero if never.
func (r *Remote) Answered() time.Time {
	r.breaker.mu.Lock()
	defer r.breaker.mu.Unlock()
	return r.breaker.answered
}

// Head is the one last confirmed.
func (r *Remote) Head() manifest.Head {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.head
}

// Probe checks that the store honours conditional writes. It tries once.
func (r *Remote) Probe(ctx context.Context) error {
	return r.breaker.try(ctx, r.o.Store.Probe)
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

// MayHold reports whether the store may hold anything of a chunk; if not, what is not local is zero. Until
// the manifest is loaded everything may be held. It never waits.
func (r *Remote) MayHold(chunk uint64) bool {
	return !r.Loaded() || r.blocks.MayHold(chunk)
}

// Generation changes when a commit changes the cell, and sometimes without.
func (r *Remote) Generation(n uint64) uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.blocks == nil {
		return 0
	}
	return r.blocks.Lookup(n).Generation
}

// Stats tell how the manifest is doing. Load must have returned.
func (r *Remote) Stats() manifest.Stats {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.blocks.Stats()
}

// key of an immutable object.
func (r *Remote) key(id manifest.ID) string { return r.prefix + id.String() }
