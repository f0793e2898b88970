package dataplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
	"github.com/ratchetos/ratchet/plugins/dataplane/link"
)

const (
	// showEvery is how often counters are reported.
	showEvery = 2 * time.Second
	// Back-off between attempts while the kernel refuses something.
	firstRetry, lastRetry = 100 * time.Millisecond, 30 * time.Second
)

// Feature is the dataplane plugin.
type Feature struct {
	mu      sync.Mutex
	section plugin.Section
	keeper  *keeper // nil while stopped; stepped with mu held
	session *plugin.Session

	wake   chan struct{} // a new configuration is to be applied
	cancel context.CancelFunc
	done   chan struct{}
}

var (
	_ plugin.Feature = (*Feature)(nil)
	_ plugin.Invoker = (*Feature)(nil)
)

// New makes the feature; it holds nothing until Start.
func New() *Feature { return &Feature{} }

// Describe implements plugin.Feature.
func (f *Feature) Describe() plugin.Descriptor {
	return &pluginpb.Descriptor{
		Name: "dataplane", Version: "1", Summary: "NICs, addresses and routes apart from the management network",
		ConfigSchema: plugin.Schema(Config{}), OwnNetns: true, Capabilities: []string{"CAP_NET_ADMIN", "CAP_NET_RAW"},
		Methods: []*pluginpb.Method{{Name: api.MethodLinks, Summary: "links with their state and counters", ReadOnly: true}},
	}
}

// Validate implements plugin.Feature.
func (f *Feature) Validate(_ context.Context, section plugin.Section) plugin.Validation {
	_, v := parse(section)
	return v
}

// Configure implements plugin.Feature. Links whose part is unchanged are not touched. Another set of NICs needs
// a restart, because core hands NICs out at Start.
func (f *Feature) Configure(_ context.Context, section plugin.Section) error {
	desired, v := parse(section)
	if err := v.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.section = section
	if f.keeper == nil {
		return nil
	}
	if len(desired) != len(f.keeper.links) {
		return plugin.ErrNeedsRestart
	}
	for i, d := range desired {
		if f.keeper.links[i].selector != d.selector {
			return plugin.ErrNeedsRestart
		}
	}
	for i, d := range desired {
		f.keeper.links[i].configured = d
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return nil
}

// Start implements plugin.Feature: it brings all links to their state once and then keeps them there.
// A link that cannot be brought up leaves the plugin degraded, not failed: the others carry traffic.
func (f *Feature) Start(_ context.Context, s *plugin.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	desired, _ := parse(f.section)
	ns, err := link.Open()
	if err != nil {
		return err
	}
	k := &keeper{kernel: ns}
	for _, d := range desired {
		h, ok := s.Handles[d.want]
		if !ok {
			ns.Close()
			return fmt.Errorf("core handed out no NIC for %s", d.selector)
		}
		k.links = append(k.links, kept{configured: d, handle: h})
	}
	ctx, cancel := context.WithCancel(context.Background())
	changes, err := link.Changes(ctx)
	if err != nil {
		cancel()
		ns.Close()
		return err
	}
	f.keeper, f.session, f.cancel = k, s, cancel
	f.wake, f.done = make(chan struct{}, 1), make(chan struct{})
	settled := k.step()
	s.Report(k.event())
	go f.keep(ctx, ns, changes, settled)
	return nil
}

// keep reconciles on every change the kernel reports, and with back-off while something is refused.
func (f *Feature) keep(ctx context.Context, ns *link.Namespace, changes <-chan struct{}, settled bool) {
	defer close(f.done)
	defer ns.Close()
	show := time.NewTicker(showEvery)
	defer show.Stop()
	delay := firstRetry
	for {
		var retry <-chan time.Time
		if !settled {
			retry = time.After(delay)
		}
		select {
		case <-ctx.Done():
			return
		case _, ok := <-changes:
			if !ok {
				f.session.Report(&pluginpb.Event{Health: pluginpb.Event_FAILED, Message: "link changes cannot be followed any more"})
				changes = nil
			}
		case <-f.wake:
		case <-show.C:
		case <-retry:
			delay = min(2*delay, lastRetry)
		}
		f.mu.Lock()
		if settled = f.keeper.step(); settled {
			delay = firstRetry
		}
		e := f.keeper.event()
		f.mu.Unlock()
		f.session.Report(e)
	}
}

// Stop implements plugin.Feature. Links stay as they are: traffic outlives the plugin.
func (f *Feature) Stop(ctx context.Context) error {
	f.mu.Lock()
	cancel, done := f.cancel, f.done
	f.cancel = nil
	f.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("stop: %w", ctx.Err())
	}
	f.mu.Lock()
	f.keeper = nil
	f.mu.Unlock()
	return nil
}

// Invoke implements plugin.Invoker.
func (f *Feature) Invoke(_ context.Context, method string, _ []byte) ([]byte, error) {
	if method != api.MethodLinks {
		return nil, fmt.Errorf("unknown method %q", method)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keeper == nil {
		return nil, errors.New("the dataplane is not started")
	}
	return json.Marshal(api.LinksReply{Links: f.keeper.show()})
}
