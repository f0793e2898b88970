package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

// Feature is the migration plugin.
type Feature struct {
	mu      sync.Mutex
	section plugin.Section
	config  Config
	hosts   []*follower // in the order of the configuration; nil while stopped
	session *plugin.Session
	moves   *mover // nil while stopped, and where nothing can be moved
	dial    func(*mover, HostConfig) hypervisor.Dial

	wake   chan struct{} // something to show has changed
	cancel context.CancelFunc
	done   chan struct{}
}

var (
	_ plugin.Feature    = (*Feature)(nil)
	_ plugin.Configured = (*Feature)(nil)
	_ plugin.Invoker    = (*Feature)(nil)
	_ plugin.Drainer    = (*Feature)(nil)
)

// New makes the feature; it holds nothing until Start.
func New() plugin.Feature { return &Feature{wake: make(chan struct{}, 1), dial: dialer} }

// Describe implements plugin.Feature.
func (f *Feature) Describe() plugin.Descriptor {
	d := &pluginpb.Descriptor{Name: "migration", Version: "2", Summary: "follows and moves the VMs of hypervisor hosts"}
	for _, c := range commands() {
		d.Methods = append(d.Methods, c.method)
	}
	return d
}

// ConfigSchema implements plugin.Configured.
func (f *Feature) ConfigSchema() string { return plugin.Schema(Config{}) }

// Validate implements plugin.Feature.
func (f *Feature) Validate(_ context.Context, section plugin.Section) plugin.Validation {
	_, v := parse(section)
	return v
}

// Configure implements plugin.Feature. After Start it connects to new hosts and leaves removed ones; hosts whose entry is
// unchanged keep their connection, and moves go on.
func (f *Feature) Configure(_ context.Context, section plugin.Section) error {
	config, v := parse(section)
	if v.Failed() {
		return fmt.Errorf("configure: %w", v.Err())
	}
	f.mu.Lock()
	if f.session != nil && config.needsProcess(f.config) {
		f.mu.Unlock()
		return plugin.ErrNeedsRestart
	}
	f.section, f.config = section, config
	var left []*follower
	if f.session != nil {
		left = f.follow(config.Hosts)
	}
	f.mu.Unlock()
	for _, h := range left {
		h.stop()
	}
	f.changed()
	return nil
}

// follow makes the followers those of hosts and returns the ones to stop.
func (f *Feature) follow(hosts []HostConfig) (left []*follower) {
	old := f.hosts
	f.hosts = make([]*follower, 0, len(hosts))
	for _, conf := range hosts {
		i := slices.IndexFunc(old, func(h *follower) bool { return reflect.DeepEqual(h.conf, conf) })
		if i >= 0 {
			f.hosts = append(f.hosts, old[i])
			old = slices.Delete(slices.Clone(old), i, i+1)
			continue
		}
		f.hosts = append(f.hosts, newFollower(conf, f.dial(f.moves, conf), f.session.Log, f.changed))
	}
	return old
}

// changed asks for a new event. It never blocks.
func (f *Feature) changed() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Start implements plugin.Feature. It does not wait for hosts: one that is away must not keep the plugin from being
// ready. Moves that an earlier process left in the middle are taken up once their hosts answer.
func (f *Feature) Start(ctx context.Context, s *plugin.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	config, v := parse(f.section)
	if v.Failed() {
		return errors.New("start: the configuration is not valid")
	}
	f.config, f.session = config, s
	if config.movable() {
		moves, err := f.newMover(ctx, s)
		if err != nil {
			f.session = nil
			return fmt.Errorf("start: %w", err)
		}
		f.moves = moves
	}
	running, cancel := context.WithCancel(context.Background())
	f.cancel, f.done = cancel, make(chan struct{})
	f.follow(config.Hosts)
	if f.moves != nil {
		f.moves.resume()
	}
	s.Report(f.event())
	go f.show(running)
	return nil
}

// show reports when something has changed.
func (f *Feature) show(ctx context.Context) {
	defer close(f.done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
		f.mu.Lock()
		e := f.event()
		f.mu.Unlock()
		f.session.Report(e)
	}
}

// Drain implements plugin.Drainer: no move is begun any more, and those under way may end. What has not ended when ctx
// does is taken up by the next process.
func (f *Feature) Drain(ctx context.Context, progress func(inFlight uint64)) error {
	f.mu.Lock()
	moves := f.moves
	f.mu.Unlock()
	if moves == nil {
		return nil
	}
	return moves.drain(ctx, progress)
}

// Stop implements plugin.Feature. VMs and hosts are left as they are.
func (f *Feature) Stop(ctx context.Context) error {
	f.mu.Lock()
	cancel, done, hosts, moves := f.cancel, f.done, f.hosts, f.moves
	f.cancel, f.hosts, f.moves = nil, nil, nil
	f.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	if moves != nil {
		moves.close(ctx) // before the connections it uses
	}
	for _, h := range hosts {
		h.cancel()
	}
	for _, wait := range append([]chan struct{}{done}, doneOf(hosts)...) {
		select {
		case <-wait:
		case <-ctx.Done():
			return fmt.Errorf("stop: %w", ctx.Err())
		}
	}
	f.mu.Lock()
	f.session = nil
	f.mu.Unlock()
	return nil
}

func doneOf(hosts []*follower) []chan struct{} {
	var list []chan struct{}
	for _, h := range hosts {
		list = append(list, h.done)
	}
	return list
}

// row is a host with what is known of it.
type row struct {
	conf HostConfig
	view
}

// rows copies what is known. It is called with mu held.
func (f *Feature) rows() []row {
	list := make([]row, 0, len(f.hosts))
	for _, h := range f.hosts {
		list = append(list, row{h.conf, h.now()})
	}
	return list
}

// known is rows for those who do not hold mu.
func (f *Feature) known() []row {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rows()
}

// Invoke implements plugin.Invoker.
func (f *Feature) Invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	f.mu.Lock()
	started := f.session != nil
	f.mu.Unlock()
	if !started {
		return nil, errors.New("migration is not started")
	}
	for _, c := range commands() {
		if c.method.GetName() != method {
			continue
		}
		reply, err := c.run(f, ctx, request)
		if err != nil {
			return nil, err
		}
		return json.Marshal(reply)
	}
	return nil, fmt.Errorf("unknown method %q", method)
}
