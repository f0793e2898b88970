package migration

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
)

const (
	// refreshEvery is how old a list may be of a host that says nothing.
	refreshEvery = 5 * time.Second
	// callLimit bounds connecting to a host and asking it for its list.
	callLimit = 5 * time.Second
	// settle is how long after an event the list is taken, so that a burst causes one.
	settle = 20 * time.Millisecond
	// Back-off between attempts to reach a host that is away.
	firstRetry, lastRetry = 200 * time.Millisecond, 15 * time.Second
	// keepEvents is how many events of a host are remembered.
	keepEvents = 64
)

// hostState is what a host is to us.
type hostState string

const (
	connecting hostState = "connecting" // not yet tried
	up         hostState = "up"
	away       hostState = "away"
)

// view is what is known of a host. A view that was handed out is never changed.
type view struct {
	state   hostState
	since   time.Time
	problem string
	vms     []hypervisor.VM // as of the last list; none while away
	events  []hypervisor.Event
}

// follower keeps a connection to one host.
type follower struct {
	conf    HostConfig
	dial    hypervisor.Dial
	changed func() // called after every change of the view, without locks
	log     *slog.Logger

	mu   sync.Mutex
	view view
	live hypervisor.Host // the open connection; nil while there is none

	cancel context.CancelFunc
	done   chan struct{}
}

func newFollower(conf HostConfig, dial hypervisor.Dial, log *slog.Logger, changed func()) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{
		conf: conf, dial: dial, changed: changed, log: log.With("host", conf.Name),
		view: view{state: connecting, since: time.Now()}, cancel: cancel, done: make(chan struct{}),
	}
	go f.follow(ctx)
	return f
}

// stop ends the connection and returns when nothing runs any more.
func (f *follower) stop() {
	f.cancel()
	<-f.done
}

// now returns what is known.
func (f *follower) now() view {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view
}

// serve makes host the one that others may use, nil for none.
func (f *follower) serve(host hypervisor.Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live = host
}

// port is the open connection, for those who move VMs. It ends when the follower finds it broken; then there is another
// one soon.
func (f *follower) port() (hypervisor.Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.live == nil {
		return nil, fmt.Errorf("host %s is %s: %s", f.conf.Name, f.view.state, cmp.Or(f.view.problem, "no answer yet"))
	}
	p, ok := f.live.(hypervisor.Port)
	if !ok {
		return nil, fmt.Errorf("host %s is only followed: reach it by vmhost or libvirt to move VMs", f.conf.Name)
	}
	return p, nil
}

// update replaces the view by what fn makes of it.
func (f *follower) update(fn func(v *view)) {
	f.mu.Lock()
	fn(&f.view)
	f.mu.Unlock()
	f.changed()
}

// follow connects, watches, and starts over, until ctx ends.
func (f *follower) follow(ctx context.Context) {
	defer close(f.done)
	delay := firstRetry
	for {
		reached, err := f.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if reached {
			delay = firstRetry
		}
		f.lost(err)
		// Jitter keeps many hosts behind one failed link from being tried in step.
		t := time.NewTimer(delay/2 + rand.N(delay/2+1))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		delay = min(2*delay, lastRetry)
	}
}

// lost notes that the host is away. Only the first time is news.
func (f *follower) lost(err error) {
	if f.now().state != away {
		f.log.Warn("host is away", "err", err)
	}
	f.update(func(v *view) {
		if v.state != away {
			v.state, v.since = away, time.Now()
		}
		v.problem, v.vms = err.Error(), nil
	})
}

// session follows one connection to its end. reached tells that the host had answered.
func (f *follower) session(ctx context.Context) (reached bool, err error) {
	host, err := f.connect(ctx)
	if err != nil {
		return false, err
	}
	defer host.Close()
	f.serve(host) // before it is shown as up
	defer f.serve(nil)
	if err := f.refresh(ctx, host); err != nil {
		return false, err
	}
	f.log.Info("host is up")
	timer := time.NewTimer(refreshEvery)
	defer timer.Stop()
	soon := false
	for {
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case e, ok := <-host.Events():
			if !ok {
				return true, host.Err()
			}
			f.note(e)
			// The first event of a burst sets the time; those after it do not push it back.
			if !soon {
				soon = true
				timer.Reset(settle)
			}
		case <-timer.C:
			soon = false
			timer.Reset(refreshEvery)
			if err := f.refresh(ctx, host); err != nil {
				return true, err
			}
		}
	}
}

func (f *follower) connect(ctx context.Context) (hypervisor.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	return f.dial(ctx)
}

func (f *follower) refresh(ctx context.Context, host hypervisor.Host) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	vms, err := host.List(ctx)
	if err != nil {
		return err
	}
	f.update(func(v *view) {
		if v.state != up {
			v.state, v.since, v.problem = up, time.Now(), ""
		}
		v.vms = vms
	})
	return nil
}

// note remembers an event. The list that was handed out before stays as it was.
func (f *follower) note(e hypervisor.Event) {
	f.log.Debug("event", "vm", e.VM, "name", e.Name, "data", e.Detail)
	f.update(func(v *view) {
		keep := v.events[max(0, len(v.events)-keepEvents+1):]
		v.events = append(slices.Clone(keep), e)
	})
}
