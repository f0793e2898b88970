package dataplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/dataplane/api"
)

// keep reconciles on every change the kernel reports, and with back-off while something is refused.
func (r *run) keep(ctx context.Context, changes <-chan struct{}, settled bool) {
	defer close(r.done)
	show := time.NewTicker(showEvery)
	defer show.Stop()
	delay := firstRetry
	var shown time.Time
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
				r.session.Report(&pluginpb.Event{Health: pluginpb.Event_FAILED, Message: "link changes cannot be followed any more"})
				changes = nil
			}
		case <-r.wake:
			// A part that has much to tell is heard ten times a second.
			if !r.pause(ctx, showPause-time.Since(shown)) {
				return
			}
		case <-show.C:
		case <-retry:
			delay = min(2*delay, lastRetry)
		}
		if settled = r.step(ctx); settled {
			delay = firstRetry
		}
		r.report()
		shown = time.Now()
	}
}

func (r *run) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// report publishes what there is to see.
func (r *run) report() {
	r.mu.Lock()
	e := r.keeper.event()
	r.parts.show(e)
	r.mu.Unlock()
	r.agents.show(e)
	r.session.Report(e)
}

// stop ends the goroutines; what is in the kernel stays.
func (r *run) stop(ctx context.Context) error {
	r.cancel()
	select {
	case <-r.done:
	case <-ctx.Done():
		return fmt.Errorf("stop: %w", ctx.Err())
	}
	// Hosts first: what they say now reaches the next process, or nobody.
	var errs []error
	if r.agents != nil {
		errs = append(errs, r.agents.stop(ctx))
	}
	errs = append(errs, r.parts.stop(ctx), r.ns.Close())
	if r.pins.File != nil {
		r.pins.File.Close()
	}
	return errors.Join(errs...)
}

// links answers the call that lists them.
func (r *run) links() []api.Link {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keeper.show()
}

// invoke calls the part whose method it is; the part may take its time.
func (r *run) invoke(ctx context.Context, method string, request []byte) ([]byte, error) {
	r.mu.Lock()
	p, err := r.parts.find(method)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return p.Invoke(ctx, method, request)
}

// links is what the parts may know of the links: where they are now.
type links struct {
	mu         sync.RWMutex
	byName     map[string]place
	generation uint64 // grows when byName changes
}

type place struct{ index, mtu int }

// set notes where the configured links are.
func (l *links) set(all []kept) {
	now := make(map[string]place, len(all))
	for _, k := range all {
		if k.present {
			now[k.observed.Name] = place{int(k.observed.Index), int(k.observed.MTU)}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !maps.Equal(now, l.byName) || l.byName == nil {
		l.byName = now
		l.generation++
	}
}

func (l *links) find(name string) (index, mtu int, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, ok := l.byName[name]
	return p.index, p.mtu, ok
}

// age tells one state of the links from another.
func (l *links) age() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.generation
}
