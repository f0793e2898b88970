package migration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/migration/api"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
)

// Feature is the migration plugin.
type Feature struct {
	mu      sync.Mutex
	section plugin.Section
	hosts   []*follower // in the order of the configuration; nil while stopped
	session *plugin.Session

	wake   chan struct{} // something to show has changed
	cancel context.CancelFunc
	done   chan struct{}
}

var (
	_ plugin.Feature    = (*Feature)(nil)
	_ plugin.Configured = (*Feature)(nil)
	_ plugin.Invoker    = (*Feature)(nil)
)

// New makes the feature; it holds nothing until Start.
func New() plugin.Feature { return &Feature{wake: make(chan struct{}, 1)} }

// Describe implements plugin.Feature.
func (f *Feature) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{
		Name: "migration", Version: "1", Summary: "follows the VMs of hypervisor hosts",
		Methods: []*pluginpb.Method{
			{Name: api.MethodHosts, Summary: "hosts with their state", ReadOnly: true},
			{Name: api.MethodVMs, Summary: "VMs with state, vCPUs and memory", ReadOnly: true},
			{Name: api.MethodVM, Summary: "one VM with its devices and last events", ReadOnly: true},
		},
	}
}

// ConfigSchema implements plugin.Configured.
func (f *Feature) ConfigSchema() string { return plugin.Schema(Config{}) }

// Validate implements plugin.Feature.
func (f *Feature) Validate(_ context.Context, section plugin.Section) plugin.Validation {
	_, v := parse(section)
	return v
}

// Configure implements plugin.Feature. After Start it connects to new hosts and leaves removed ones;
// hosts whose entry is unchanged keep their connection.
func (f *Feature) Configure(_ context.Context, section plugin.Section) error {
	hosts, v := parse(section)
	if v.Failed() {
		return fmt.Errorf("configure: %s: %s", v.Diagnostics[0].Path, v.Diagnostics[0].Message)
	}
	f.mu.Lock()
	f.section = section
	var left []*follower
	if f.session != nil {
		left = f.apply(hosts)
	}
	f.mu.Unlock()
	for _, h := range left {
		h.stop()
	}
	f.changed()
	return nil
}

// apply makes the followers those of hosts and returns the ones to stop.
func (f *Feature) apply(hosts []HostConfig) (left []*follower) {
	old := f.hosts
	f.hosts = make([]*follower, 0, len(hosts))
	for _, conf := range hosts {
		i := slices.IndexFunc(old, func(h *follower) bool { return h.conf == conf })
		if i >= 0 {
			f.hosts = append(f.hosts, old[i])
			old = slices.Delete(slices.Clone(old), i, i+1)
			continue
		}
		f.hosts = append(f.hosts, newFollower(conf, dialer(conf), f.session.Log, f.changed))
	}
	return old
}

// dialer returns how to reach a host, whose address was checked by parse.
func dialer(conf HostConfig) hypervisor.Dial {
	name := conf.VM
	if name == "" {
		name = conf.Name
	}
	return func(ctx context.Context) (hypervisor.Host, error) {
		network, address, err := qmp.ParseAddress(conf.QMP)
		if err != nil {
			return nil, err
		}
		host, err := qmp.DialHost(ctx, network, address, name, nil)
		if err != nil {
			return nil, err // not host: a nil *qmp.Host in an interface is not nil
		}
		return host, nil
	}
}

// changed asks for a new event. It never blocks.
func (f *Feature) changed() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Start implements plugin.Feature. It does not wait for hosts: one that is away must not keep the
// plugin from being ready.
func (f *Feature) Start(_ context.Context, s *plugin.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	hosts, v := parse(f.section)
	if v.Failed() {
		return errors.New("start: the configuration is not valid")
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.session, f.cancel, f.done = s, cancel, make(chan struct{})
	f.apply(hosts)
	s.Report(event(f.rows()))
	go f.show(ctx)
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
		rows := f.rows()
		f.mu.Unlock()
		f.session.Report(event(rows))
	}
}

// Stop implements plugin.Feature. VMs and hosts are left as they are.
func (f *Feature) Stop(ctx context.Context) error {
	f.mu.Lock()
	cancel, done, hosts := f.cancel, f.done, f.hosts
	f.cancel, f.hosts = nil, nil
	f.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
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

// Invoke implements plugin.Invoker.
func (f *Feature) Invoke(_ context.Context, method string, request []byte) ([]byte, error) {
	f.mu.Lock()
	rows, started := f.rows(), f.session != nil
	f.mu.Unlock()
	if !started {
		return nil, errors.New("migration is not started")
	}
	switch method {
	case api.MethodHosts:
		return json.Marshal(hostsReply(rows))
	case api.MethodVMs:
		return json.Marshal(vmsReply(rows))
	case api.MethodVM:
		var req api.VMRequest
		if err := json.Unmarshal(request, &req); err != nil {
			return nil, fmt.Errorf("decode request: %w", err)
		}
		reply, err := vmReply(rows, req)
		if err != nil {
			return nil, err
		}
		return json.Marshal(reply)
	}
	return nil, fmt.Errorf("unknown method %q", method)
}
