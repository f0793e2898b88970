package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/group"
	"github.com/ratchetos/ratchet/plugins/dataplane/link"
)

const (
	// showEvery is how often counters are reported.
	showEvery = 2 * time.Second
	// showPause is the least time between two reports that a part asked for.
	showPause = 100 * time.Millisecond
	// Back-off between attempts while the kernel refuses something.
	firstRetry, lastRetry = 100 * time.Millisecond, 30 * time.Second
)

// Feature is the dataplane plugin.
type Feature struct {
	mu      sync.Mutex
	section plugin.Section
	run     *run // nil while stopped
}

var (
	_ plugin.Feature    = (*Feature)(nil)
	_ plugin.Configured = (*Feature)(nil)
	_ plugin.Invoker    = (*Feature)(nil)
)

// New makes the feature; it holds nothing until Start.
func New() *Feature { return &Feature{} }

// Describe implements plugin.Feature.
func (f *Feature) Describe() plugin.Descriptor {
	methods := []*pluginpb.Method{
		{Name: api.MethodLinks, Summary: "links with their state and counters", ReadOnly: true},
		{Name: api.MethodProbe, Summary: "load every BPF program once, to see that the kernel takes it"},
	}
	methods = append(methods, agentMethods()...)
	for _, m := range modules() {
		methods = append(methods, m.methods()...)
	}
	return &pluginpb.Descriptor{
		Name: "dataplane", Version: "1", Summary: "NICs apart from the management network: addresses and routes, balancer, interface groups, leases",
		OwnNetns: true, Methods: methods,
		// BPF to load programs, PERFMON for pointers in them and for reading the kernel's memory of packets.
		Capabilities: []string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON"},
	}
}

// ConfigSchema implements plugin.Configured.
func (f *Feature) ConfigSchema() string { return plugin.Schema(Config{}) }

// Validate implements plugin.Feature.
func (f *Feature) Validate(_ context.Context, section plugin.Section) plugin.Validation {
	_, v := parse(section)
	return v
}

// Configure implements plugin.Feature. What is unchanged is not touched. Another set of NICs needs a restart, because
// core hands NICs out at Start; so does a part that comes or goes, and its traffic does not notice.
func (f *Feature) Configure(_ context.Context, section plugin.Section) error {
	d, v := parse(section)
	if err := v.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.section = section
	if f.run == nil {
		return nil
	}
	return f.run.configure(d)
}

// Start implements plugin.Feature: it brings all links and parts to their state once and then keeps them there.
// What cannot be brought up leaves the plugin degraded, not failed: the rest carries traffic.
func (f *Feature) Start(ctx context.Context, s *plugin.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d, v := parse(f.section)
	if err := v.Err(); err != nil {
		return err
	}
	r, err := newRun(ctx, s, d)
	if err != nil {
		return err
	}
	f.run = r
	return nil
}

// Stop implements plugin.Feature. Links and programs stay as they are: traffic outlives the plugin.
func (f *Feature) Stop(ctx context.Context) error {
	f.mu.Lock()
	r := f.run
	f.run = nil
	f.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.stop(ctx)
}

// Invoke implements plugin.Invoker.
func (f *Feature) Invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	f.mu.Lock()
	r := f.run
	f.mu.Unlock()
	if r == nil {
		return nil, errors.New("the dataplane is not started")
	}
	switch method {
	case api.MethodLinks:
		return json.Marshal(api.LinksReply{Links: r.links()})
	case api.MethodProbe:
		return probe()
	case api.MethodAgents, api.MethodEnroll, api.MethodRevoke:
		return r.agents.invoke(ctx, method, request)
	}
	return r.invoke(ctx, method, request)
}

// run is the dataplane from Start to Stop.
type run struct {
	session *plugin.Session
	ns      *link.Namespace
	pins    plugin.Handle
	agents  *agents     // nil when none are configured
	groups  *group.Part // nil when none are configured
	known   links       // what the parts see of the links

	mu      sync.Mutex // held for a step, and to look at what it left
	keeper  *keeper
	desired *desired
	parts   parts

	wake   chan struct{} // a new configuration, or something to show
	cancel context.CancelFunc
	done   chan struct{}
}

// newRun takes over what core handed out and does the first step.
func newRun(ctx context.Context, s *plugin.Session, d *desired) (_ *run, err error) {
	r := &run{
		session: s, keeper: &keeper{}, desired: d, pins: s.Handles[wantPins],
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	long, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	defer func() {
		if err != nil {
			cancel()
			if r.ns != nil {
				r.ns.Close()
			}
		}
	}()
	if r.ns, err = link.Open(); err != nil {
		return nil, err
	}
	r.keeper.kernel = r.ns
	for _, c := range d.links {
		h, ok := s.Handles[c.want]
		if !ok {
			return nil, fmt.Errorf("core handed out no NIC for %s", c.selector)
		}
		r.keeper.links = append(r.keeper.links, kept{configured: c, handle: h})
	}
	changes, err := link.Changes(long)
	if err != nil {
		return nil, err
	}
	if err := r.openParts(ctx); err != nil {
		return nil, err
	}
	settled := r.step(ctx)
	if r.agents != nil {
		r.agents.serve() // the parts have set their handlers
	}
	r.report()
	go r.keep(long, changes, settled)
	return r, nil
}

// openParts makes the parts that are configured, and the agents' server before them.
func (r *run) openParts(ctx context.Context) (err error) {
	if r.desired.agents {
		h, ok := r.session.Handles[wantAgents]
		if !ok || h.File == nil {
			return errors.New("core handed out no socket for agents")
		}
		defer h.File.Close()
		if r.agents, err = openAgents(ctx, r.session.Host, h.File, r.session.Log); err != nil {
			return err
		}
	}
	for _, m := range modules() {
		if !m.wanted(r.desired) {
			continue
		}
		res, err := r.resources(m)
		if err != nil {
			return err
		}
		p := m.make(m, res)
		if g, ok := p.part.(*group.Part); ok {
			r.groups = g
		}
		r.parts = append(r.parts, p)
	}
	return nil
}

// resources are what one part gets.
func (r *run) resources(m module) (resources, error) {
	res := resources{
		log: r.session.Log.With("part", m.name), state: prefixed{r.session.Host, m.name + "/"},
		link: r.known.find, changed: r.poke, groups: r.groups,
	}
	if r.agents != nil {
		res.server = r.agents.server
	}
	if r.pins.File != nil {
		// By descriptor: the way to the mount may be closed to a plugin's user.
		res.pins = fmt.Sprintf("/proc/self/fd/%d/%s", r.pins.File.Fd(), m.name)
		if err := os.Mkdir(res.pins, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return resources{}, fmt.Errorf("make directory for programs: %w", err)
		}
	}
	return res, nil
}

// configure takes over a valid section.
func (r *run) configure(d *desired) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.shape() != r.desired.shape() {
		// What is not wanted any more would work on in the kernel, and the next process will not know of it.
		if err := r.parts.remove(d); err != nil {
			return err
		}
		return plugin.ErrNeedsRestart
	}
	for i, c := range d.links {
		r.keeper.links[i].configured = c
	}
	r.desired = d
	r.poke()
	return nil
}

func (r *run) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// step brings links and parts to their state and says whether all are there.
func (r *run) step(ctx context.Context) (settled bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	settled = r.keeper.step()
	r.known.set(r.keeper.links)
	return r.parts.settle(ctx, r.desired, r.known.age()) && settled
}
