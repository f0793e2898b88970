package group

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// Control is the box's end of the channel to its hosts; control.Server is one.
type Control interface {
	HandleCall(method string, h func(ctx context.Context, host string, request []byte) ([]byte, error))
	HandleDatagram(kind uint8, h func(host string, seq uint64, payload []byte) (reply []byte))
}

// Options is what a Part is made with.
type Options struct {
	Log     *slog.Logger
	State   StateStore
	Control Control // nil: there are no agents, and nobody to tell
	Changed func()  // what is shown has changed; may be nil
}

// Part is the control plane of the groups on one box. All methods may be called from any goroutine.
type Part struct {
	o     Options
	began time.Time // times are durations since then, of the monotonic clock

	// writing is held over a change from its making to its commit; mu only while the store is read or written.
	writing sync.Mutex
	mu      sync.Mutex
	store   *Store // nil while stopped
	clients Clients
	places  map[uint32]Location // of VNIs, as told last
	fencer  string              // the host that showed a version of another control plane
	news    chan struct{}       // closed and replaced when the store changes
	acks    chan struct{}       // closed and replaced when a client has applied something
}

// New makes the part. It costs nothing until Start.
func New(o Options) *Part {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	p := &Part{o: o, began: time.Now()}
	if o.Control != nil {
		o.Control.HandleCall(methodPull, p.pull)
		o.Control.HandleDatagram(control.KindGroupAck, p.confirm)
	}
	return p
}

// errStopped is what calls get while the groups are not configured.
var errStopped = errors.New("interface groups are not configured: add groups: {} to plugins.dataplane")

// Start reads the groups and begins to answer.
func (p *Part) Start(ctx context.Context, d Desired) error {
	store, err := load(ctx, p.o.State)
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	longest, err := keepLease(ctx, p.o.State, d.Lease)
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.store, p.clients = store, Clients{Lease: d.Lease, Unknown: p.now() + longest}
	p.news, p.acks = make(chan struct{}), make(chan struct{})
	return nil
}

// Apply takes over a new configuration.
func (p *Part) Apply(ctx context.Context, d Desired) error {
	longest, err := keepLease(ctx, p.o.State, d.Lease)
	if err != nil {
		return fmt.Errorf("groups: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients.Lease != d.Lease {
		p.clients.Lease, p.clients.Unknown = d.Lease, p.now()+longest
	}
	return nil
}

// Stop ends the answers. What clients have programmed goes on until their leases run out.
func (p *Part) Stop(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store != nil {
		p.store = nil
		close(p.news)
		close(p.acks)
	}
	return nil
}

func (p *Part) now() time.Duration { return time.Since(p.began) }

// change makes a change, keeps it, and makes it true: in this order, so that no client ever sees what a restart
// would take back.
func (p *Part) change(ctx context.Context, f func(*Store) (Change, error)) (Version, error) {
	p.writing.Lock()
	defer p.writing.Unlock()
	p.mu.Lock()
	store := p.store
	if store == nil {
		p.mu.Unlock()
		return Version{}, errStopped
	}
	fresh := store.version.Term == 0 && !store.Fenced()
	p.mu.Unlock()
	if fresh { // the first change of a box takes the first term
		if err := p.commit(ctx, store, p.promotion); err != nil {
			return Version{}, err
		}
	}
	var v Version
	err := p.commit(ctx, store, func(s *Store) (Change, error) {
		c, err := f(s)
		v = c.Version
		return c, err
	})
	return v, err
}

// commit is called with writing held, so that the store does not change between its two looks at it.
func (p *Part) commit(ctx context.Context, store *Store, f func(*Store) (Change, error)) error {
	p.mu.Lock()
	c, err := f(store)
	p.mu.Unlock()
	if err != nil || c.Version == (Version{}) {
		return err
	}
	if err := save(ctx, p.o.State, store, c); err != nil {
		return err
	}
	p.mu.Lock()
	if c.Version.Term != store.Version().Term {
		// Clients of whoever led before have leases that nobody here knows of.
		p.clients.Unknown = max(p.clients.Unknown, p.now()+p.clients.Lease)
	}
	store.Commit(c)
	if p.store == store {
		close(p.news)
		p.news = make(chan struct{})
	}
	p.mu.Unlock()
	p.o.Log.Info("groups changed", "version", c.Version, "what", c.What)
	p.o.Changed()
	return nil
}

func (p *Part) promotion(s *Store) (Change, error) {
	var origin [4]byte
	_, _ = rand.Read(origin[:]) // never fails (crypto/rand)
	return s.Promote(binary.LittleEndian.Uint32(origin[:]) | 1), nil
}

// Moved says where the instance of a VNI is attached now: all members with this VNI, in all groups, in one epoch.
// It is durable when it returns. Without such a member the version is zero; one that is added later is there then.
func (p *Part) Moved(ctx context.Context, vni uint32, to Location) (Version, error) {
	return p.ofVNI(ctx, vni, &to, func(s *Store) (Change, error) { return s.Moved(vni, to) })
}

// SetDown takes a VNI out of use: new flows avoid it and old ones of it are dead, or back into it.
func (p *Part) SetDown(ctx context.Context, vni uint32, down bool) (Version, error) {
	return p.ofVNI(ctx, vni, nil, func(s *Store) (Change, error) { return s.SetDown(vni, down) })
}

// maxPlaces bounds the VNIs whose place is remembered for members that are to come.
const maxPlaces = 1 << 16

func (p *Part) ofVNI(ctx context.Context, vni uint32, to *Location, f func(*Store) (Change, error)) (Version, error) {
	p.mu.Lock()
	if to == nil {
		delete(p.places, vni)
	} else if len(p.places) < maxPlaces {
		if p.places == nil {
			p.places = map[uint32]Location{}
		}
		p.places[vni] = *to
	}
	known := p.store != nil && p.store.has(vni)
	p.mu.Unlock()
	if !known {
		return Version{}, nil
	}
	return p.change(ctx, f)
}

// add makes a member; where its VNI is attached is known already, if it was told.
func (p *Part) add(ctx context.Context, group string, m Member) (Version, error) {
	return p.change(ctx, func(s *Store) (Change, error) { // with mu held
		if to, known := p.places[m.VNI]; known && !m.Underlay.IsValid() {
			m.Location = to
		}
		return s.Add(group, m)
	})
}

// Wait returns when no client uses anything older than v: each has applied it, or its lease has run out.
func (p *Part) Wait(ctx context.Context, v Version) error {
	for {
		p.mu.Lock()
		if p.store == nil {
			p.mu.Unlock()
			return errStopped
		}
		now, acks := p.now(), p.acks
		settled, until := p.clients.Settled(v, now)
		p.mu.Unlock()
		if settled {
			return nil
		}
		lapse := time.NewTimer(until - now)
		select {
		case <-acks:
		case <-lapse.C:
		case <-ctx.Done():
			lapse.Stop()
			return fmt.Errorf("wait until clients have version %s: %w", v, ctx.Err())
		}
		lapse.Stop()
	}
}
