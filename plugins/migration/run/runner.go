package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

// Volumes hands volumes over from host to host. It may be repeated; a handover to who has the volume changes nothing
// (invariant S15).
type Volumes interface {
	Handover(ctx context.Context, volume, from, to string) (epoch uint64, err error)
}

// Options of a Runner. Ports and Disk are needed.
type Options struct {
	// Ports returns the open port of a host, or why there is none now. The Runner does not close it.
	Ports func(host string) (hypervisor.Port, error)
	// Guests returns the agent of a VM on a host; the Runner closes it. nil dials its channel.
	Guests func(p hypervisor.Port, vm string) agent.Client
	// Volumes is needed for VMs with disks on a gateway.
	Volumes Volumes
	// Disk holds the journal.
	Disk journal.Disk
	// Epoch is a floor for the one that hosts are given orders under.
	Epoch uint64
	// Moves is how many may be under way; 0 is 16.
	Moves int
	// Grant, where a scheduler divides links, is asked when memory is about to be sent how many bytes a second that may use from
	// its start; later changes come by Limit. 0 is what the goal allows.
	Grant func(id string) uint64
	// Changed is told when a status has changed. It must not block.
	Changed func()
	// Now is the clock; nil is time.Now.
	Now    func() time.Time
	Log    *slog.Logger
	Policy Policy

	mutant mutant
}

const (
	defaultMoves = 16
	// keptMoves is how many ended ones are remembered.
	keptMoves = 100
)

// Errors of a Runner.
var (
	ErrCommitted  = errors.New("the move is past the point of no return: it can only be finished")
	ErrNoSuchMove = errors.New("no such move")
	ErrMoving     = errors.New("the VM is being moved already")
	ErrTooMany    = errors.New("too many moves are under way: wait for one to end")
	ErrClosed     = errors.New("the manager is shutting down")
	errCancelled  = errors.New("cancelled by the operator")
)

// Runner carries out plans.
type Runner struct {
	opts    Options
	journal *journal.Journal
	epoch   uint64

	// writing is held while the journal is written, so that a rewrite covers everything. It is taken before mu.
	writing sync.Mutex

	mu     sync.Mutex
	moves  []*move // in the order in which they were planned
	closed bool

	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Open reads the journal and takes a new epoch. No order is given before Resume or Start.
func Open(o Options) (*Runner, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Guests == nil {
		o.Guests = dialAgent
	}
	o.Moves = cmp.Or(o.Moves, defaultMoves)
	o.Policy = o.Policy.filled()
	j, records, err := journal.Open(o.Disk, journal.Options{Now: o.Now})
	if err != nil {
		return nil, err
	}
	r := &Runner{opts: o, journal: j}
	if err := r.read(records); err != nil {
		j.Close()
		return nil, err
	}
	r.epoch = max(r.epoch, o.Epoch) + 1
	if _, err := j.Append(journal.Record{Kind: journal.Epoch, Epoch: r.epoch}); err != nil {
		j.Close()
		return nil, err
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r, nil
}

func dialAgent(p hypervisor.Port, vm string) agent.Client {
	return agent.New(func(ctx context.Context) (net.Conn, error) { return p.Channel(ctx, vm) }, agent.Options{})
}

// read makes the moves that the journal tells of.
func (r *Runner) read(records []journal.Record) error {
	byID := map[string]*move{}
	for _, rec := range records {
		m := byID[rec.Move]
		switch rec.Kind {
		case journal.Epoch:
			r.epoch = max(r.epoch, rec.Epoch)
			continue
		case journal.Planned, journal.Past:
			m = &move{r: r, id: rec.Move}
			byID[rec.Move] = m
			r.moves = append(r.moves, m)
		}
		if m == nil {
			return fmt.Errorf("read journal of moves: record %d is of move %s, which was never planned: %w", rec.Seq, rec.Move, journal.ErrDamaged)
		}
		if err := m.take(rec); err != nil {
			return err
		}
	}
	for _, m := range r.moves {
		if m.status.Outcome == "" {
			m.status.Held = true // until Resume
		}
	}
	return nil
}

// Epoch is the one that orders are given under.
func (r *Runner) Epoch() uint64 { return r.epoch }

// Resume goes on with what the journal holds: moves before their commit are undone, those after it are finished. It
// returns at once.
func (r *Runner) Resume() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.moves {
		if m.status.Outcome == "" && !m.running {
			r.launch(m)
		}
	}
}

// launch starts a move's goroutine, unless only the next manager may. It is called with mu held.
func (r *Runner) launch(m *move) {
	if r.closed || m.perhaps != nil {
		return
	}
	m.running, m.status.Held = true, false
	ctx, cancel := context.WithCancelCause(r.ctx)
	if m.cancel = cancel; m.cancelled {
		cancel(errCancelled)
	}
	r.wg.Go(func() {
		defer cancel(nil)
		held := m.drive(ctx)
		r.mu.Lock()
		m.running = false
		if held != nil {
			m.status.Held, m.status.Doing, m.status.ETA, m.status.Problem = true, "", 0, held.Error()
		}
		r.mu.Unlock()
		r.opts.Changed()
	})
}

// Close stops giving orders and returns when nothing of the Runner runs. The journal goes on from there at the next
// Open.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
	return r.journal.Close()
}
