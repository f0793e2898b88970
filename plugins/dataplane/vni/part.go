package vni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/control"
	"github.com/ratchetos/ratchet/plugins/dataplane/vni/failover"
)

const (
	methodPull  = "vni.pull"
	methodCount = "vni.count"
	tickEvery   = 10 * time.Millisecond
)

// pullRequest and failover.Assignment are the call by which a host gets what it is to do.
type pullRequest struct {
	Known []failover.Known `json:"known"`
}

// Control is the box's end of the channel to its hosts; control.Server is one.
type Control interface {
	HandleCall(method string, h func(ctx context.Context, host string, request []byte) ([]byte, error))
	HandleDatagram(kind uint8, h func(host string, seq uint64, payload []byte) (reply []byte))
	Send(host string, kind uint8, payload []byte) error
	Hosts() []control.HostStatus
}

// State is the box's store; plugin.Host has one. Its keys are this part's alone.
type State interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// Location is where a VNI is.
type Location = failover.Location

// Options is what a Part is made with.
type Options struct {
	Log     *slog.Logger
	State   State
	Control Control
	// Moved is told where a VNI is up, and when it is not any more, one at a time; of several changes of one VNI
	// that came while it was busy it hears the last, and of one that is being attached elsewhere not that it is
	// down, unless that takes longer than patience. It hears the same again once a second, as a group may have got a
	// member since. It may be nil.
	Moved   func(ctx context.Context, l Location) error
	Changed func() // what is shown has changed; may be nil
}

// Part is the control plane of VNIs on one box. All methods may be called from any goroutine.
type Part struct {
	o Options

	mu      sync.Mutex
	engine  *failover.Engine // nil while stopped
	options failover.Options // of engine
	voters  []string         // as configured
	store   map[uint32]failover.Record
	term    uint64                   // to be stored; 0: none
	tell    map[uint32]Location      // what Moved has still to hear
	told    map[uint32]Location      // what it heard last, or is hearing
	soon    map[uint32]time.Duration // by VNI being attached: until when Moved does not hear that it is down
	work    chan struct{}
	news    chan struct{} // the same for tell
	cancel  context.CancelFunc
	done    sync.WaitGroup
	err     error                        // of the store, while it lasts
	moves   uint64                       // attachments
	counts  map[string]map[string]uint64 // packets by host and outcome
}

// New makes the part and sets its handlers. It costs nothing until Start.
func New(o Options) *Part {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	p := &Part{o: o, work: make(chan struct{}, 1), news: make(chan struct{}, 1)}
	if o.Control != nil {
		o.Control.HandleDatagram(control.KindBeat, p.beat)
		o.Control.HandleCall(methodPull, p.pull)
		o.Control.HandleCall(methodCount, p.counted)
	}
	return p
}

var errStopped = errors.New("VNIs are not configured: add vnis to plugins.dataplane")

// Start reads what an earlier process knew and begins to lead, or to listen.
func (p *Part) Start(ctx context.Context, d Desired) error {
	if p.o.Control == nil && len(d.Interfaces) > 0 {
		return errors.New("VNIs move between hosts, and no host can be heard: add agents.listen to plugins.dataplane")
	}
	term, records, err := p.load(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine, p.options, p.voters = failover.New(d.Options), d.Options, d.Voters
	p.engine.Define(clock(), d.Interfaces)
	p.engine.Restore(term, records)
	p.store, p.tell, p.told = map[uint32]failover.Record{}, map[uint32]Location{}, map[uint32]Location{}
	p.soon, p.counts = map[uint32]time.Duration{}, map[string]map[string]uint64{}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	p.done.Go(func() { p.tick(run) })
	p.done.Go(func() { p.write(run) })
	p.done.Go(func() { p.inform(run) })
	return nil
}

// Apply takes over a new configuration. Another place among the control planes is a new start; hosts keep what they have.
func (p *Part) Apply(ctx context.Context, d Desired) error {
	p.mu.Lock()
	same := p.engine != nil && p.options == d.Options // there is none if the last start failed
	p.mu.Unlock()
	if !same {
		if err := p.Stop(ctx); err != nil {
			return err
		}
		return p.Start(ctx, d)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return errStopped
	}
	p.voters = d.Voters
	p.engine.Define(clock(), d.Interfaces)
	p.act()
	listed := map[uint32]bool{}
	for _, i := range d.Interfaces {
		listed[i.ID] = true
	}
	gone := func(id uint32, _ Location) bool { return !listed[id] }
	maps.DeleteFunc(p.tell, gone)
	maps.DeleteFunc(p.told, gone)
	return nil
}

// Stop ends the answers to beats, and with them, within a lease, the traffic of VNIs that could move.
func (p *Part) Stop(context.Context) error {
	p.mu.Lock()
	cancel := p.cancel
	p.engine, p.cancel = nil, nil
	p.mu.Unlock()
	if cancel != nil {
		cancel()
		p.done.Wait()
	}
	return nil
}

// clock is CLOCK_BOOTTIME: leases run on while the machine sleeps.
func clock() time.Duration { return time.Duration(bpf.BootNow()) }

func (p *Part) beat(host string, _ uint64, payload []byte) []byte {
	b, err := parseBeat(payload)
	if err != nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return nil
	}
	r := p.engine.Beat(clock(), host, b)
	p.act()
	return appendReply(nil, r)
}

func (p *Part) pull(_ context.Context, host string, request []byte) ([]byte, error) {
	var r pullRequest
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine == nil {
		return nil, errStopped
	}
	a, ok := p.engine.Pull(clock(), host, r.Known)
	p.act()
	if !ok {
		return nil, errors.New("another control plane leads")
	}
	return json.Marshal(a)
}

// act carries out what the engine wants; with mu held, so without waiting for anyone.
func (p *Part) act() {
	for _, a := range p.engine.Take() {
		switch a := a.(type) {
		case failover.StoreTerm:
			p.term = a.Term
			nudge(p.work)
		case failover.Store:
			p.store[a.Interface] = a.Record
			if _, has := p.soon[a.Interface]; !has { // another attempt is no reason for more
				p.soon[a.Interface] = clock() + patience
			}
			nudge(p.work)
		case failover.Poke:
			_ = p.o.Control.Send(a.Host, control.KindBeat, appendReply(nil, a.Reply)) // the next beat's reply says it again
		case failover.Moved:
			if a.Location.Up {
				p.moves++
			}
			p.tell[a.Location.Interface.ID] = a.Location
			nudge(p.news)
			p.o.Changed()
		case failover.Note:
			p.o.Log.Info(a.Text, "vni", a.Interface)
		}
	}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (p *Part) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if n%100 == 0 {
			p.everySecond()
		}
		p.with(func(e *failover.Engine) { e.Tick(clock()) })
		p.mu.Lock()
		if len(p.soon) > 0 {
			nudge(p.news) // patience may be over
		}
		p.mu.Unlock()
	}
}

func (p *Part) everySecond() {
	var enrolled []string
	if p.o.Control != nil {
		for _, h := range p.o.Control.Hosts() {
			enrolled = append(enrolled, h.Name)
		}
	}
	p.with(func(e *failover.Engine) {
		if len(p.voters) > 0 {
			e.Voters(p.voters)
		} else {
			e.Voters(enrolled)
		}
		for id, l := range p.told {
			if _, newer := p.tell[id]; !newer {
				p.tell[id] = l
			}
		}
		nudge(p.news)
	})
}

// retryEvery is how long the store is left alone after an error.
const retryEvery = 100 * time.Millisecond

// write makes durable what must be before it is used.
func (p *Part) write(ctx context.Context) {
	for await(ctx, p.work) {
		p.mu.Lock()
		term, records := p.term, p.store
		p.term, p.store = 0, map[uint32]failover.Record{}
		p.mu.Unlock()
		err := p.save(ctx, term, records)
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			p.o.Log.Error("VNIs cannot move: the state store refuses", "err", err)
			p.again(ctx, term, records)
		}
	}
}

// save stores and says so, one by one.
func (p *Part) save(ctx context.Context, term uint64, records map[uint32]failover.Record) error {
	if term != 0 {
		if err := p.put(ctx, "term", term); err != nil {
			return err
		}
		p.with(func(e *failover.Engine) { e.TermStored(clock(), term) })
	}
	for id, r := range records {
		if err := p.put(ctx, recordPrefix+strconv.FormatUint(uint64(id), 10), r); err != nil {
			return err
		}
		p.with(func(e *failover.Engine) { e.Stored(clock(), id, r) })
		delete(records, id)
	}
	return nil
}

// again puts back what could not be stored, under what has come since.
func (p *Part) again(ctx context.Context, term uint64, records map[uint32]failover.Record) {
	p.mu.Lock()
	p.term = max(p.term, term)
	for id, r := range records {
		if _, newer := p.store[id]; !newer {
			p.store[id] = r
		}
	}
	p.mu.Unlock()
	rest(ctx, retryEvery)
	nudge(p.work)
}

func (p *Part) with(f func(*failover.Engine)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engine != nil {
		f(p.engine)
		p.act()
	}
}

func await(ctx context.Context, c chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-c:
		return true
	}
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
