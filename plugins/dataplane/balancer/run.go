package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/health"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/nexthop"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/steer"
	"github.com/ratchetos/ratchet/plugins/dataplane/balancer/table"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/link"
)

const (
	maxVIPs = 4096
	// ringSlots is the places of all rings together: 1,021 for each of a thousand VIPs.
	ringSlots = 1 << 20
	// flushGap is how long marked VIPs are gathered; vipGap is the least time between two rings of one VIP.
	flushGap = 20 * time.Millisecond
	vipGap   = 100 * time.Millisecond
	// lookEvery is how often credit is looked at, sweepEvery how often the flow table is swept.
	lookEvery  = 25 * time.Millisecond
	sweepEvery = time.Second
	// hopsEvery is how often the ways to the backends are looked for again; hopsGap is the least time between two looks
	// because routes change.
	hopsEvery = 30 * time.Second
	hopsGap   = 250 * time.Millisecond
)

// run is a started balancer.
type run struct {
	part     *Part
	o        Options
	table    *table.Table
	life     uint64
	monitor  *health.Monitor
	wake     chan struct{} // hosts or checks have changed
	kick     chan struct{} // a VIP is marked
	requests chan request
	stop     chan struct{}
	done     sync.WaitGroup

	// Of the worker.
	attachment *bpf.Attachment
	attached   atomic.Bool // the program is on the interface, for all to see
	ifindex    int
	settledIn  bool                  // the first rings are in force
	resolved   map[string]netip.Addr // of hosts
	ring       []table.BackendID     // scratch
	flushedAt  time.Duration
	hops       *nexthop.Keeper
	hopsDue    time.Duration
	hopsKept   time.Duration
	routes     <-chan struct{} // links, addresses or routes have changed
	unfollow   context.CancelFunc

	announcing announcing
	peers      peering

	mu        sync.Mutex
	d         Desired
	backends  map[backendKey]*backend
	byHost    map[hostComponent]*backend
	vips      []*vip
	placed    []table.Backend // what the table has
	states    []steer.Backend // scratch
	byName    map[string]*vip
	overrides map[override]uint32
	problems  problems
	meters    meters
}

// hostComponent is how reports name backends.
type hostComponent struct{ host, component string }

// override is an operator's weight.
type override struct{ vip, backend string }

// problems are what makes the part degraded; "" when it does not.
type problems struct {
	link, table, ring, hosts, route string
}

// request is something for the worker to do.
type request struct {
	do   func() error
	done chan error
}

// ask has the worker do something and waits for it.
func (r *run) ask(ctx context.Context, do func() error) error {
	q := request{do, make(chan error, 1)}
	select {
	case r.requests <- q:
	case <-r.stop:
		return errStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wakeUp makes the worker look; it never blocks.
func (r *run) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// hurry makes the worker flush soon; it never blocks.
func (r *run) hurry() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// begin brings a configuration into force and starts the worker.
func (r *run) begin(ctx context.Context, d Desired) error {
	var err error
	if r.life, err = life(ctx, r.o.State, r.table.TookOver()); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	if err := r.loadOverrides(ctx); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	if err := r.loadAddresses(ctx); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	if err := r.openHops(); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	if err := r.configure(ctx, d); err != nil {
		return errors.Join(fmt.Errorf("balancer: %w", err), r.closeHops())
	}
	r.settledIn = true
	r.limitOpen()
	r.attach()
	r.done.Go(r.work)
	return nil
}

// end stops everything but the program.
func (r *run) end(context.Context) error {
	r.halt()
	if err := r.table.Close(); err != nil {
		return fmt.Errorf("balancer: %w", err)
	}
	return nil
}

func (r *run) halt() {
	close(r.stop)
	r.done.Wait()
	r.stopPeers()
	r.stopAnnouncing()
	r.monitor.Close()
	_ = r.closeHops()
}

// work is the worker.
func (r *run) work() {
	look, sweep := time.NewTicker(lookEvery), time.NewTicker(sweepEvery)
	defer look.Stop()
	defer sweep.Stop()
	timer := time.NewTimer(flushGap)
	defer timer.Stop()
	routes := r.routes
	for {
		select {
		case <-r.stop:
			return
		case q := <-r.requests:
			q.done <- q.do()
		case <-r.wake:
			r.follow()
			r.markAll()
		case <-r.kick:
			// What comes in a burst is flushed together.
			timer.Reset(max(0, r.flushedAt+flushGap-r.part.now()))
			continue
		case <-timer.C:
		case _, follows := <-routes:
			if !follows {
				routes = nil // the socket failed: ways are looked for every hopsEvery
			}
			r.hopsDue = min(r.hopsDue, r.hopsKept+hopsGap)
			continue
		case <-look.C:
			r.watchCredit()
			if r.part.now() >= r.hopsDue {
				r.keepHops()
			}
			continue
		case <-sweep.C:
			r.sweep()
		}
		timer.Reset(r.flush())
	}
}

// follow takes up new addresses of hosts, and what the table has refused.
func (r *run) follow() {
	changed := r.resolve(context.Background())
	r.mu.Lock()
	vips, refused := r.vips, r.problems.table != ""
	r.mu.Unlock()
	if !changed && !refused {
		return
	}
	r.check(vips)
	r.setProblem(&r.problems.table, r.fill(vips))
}

// attach puts the program on the interface, or says why it is not there.
func (r *run) attach() {
	problem := ""
	index, mtu, ok := r.o.Link(r.d.Interface)
	switch {
	case !ok:
		problem = fmt.Sprintf("interface %s is not there", r.d.Interface)
	case r.attachment != nil && index == r.ifindex: // still, or again
	default:
		a, err := r.table.Attach(index)
		if err != nil {
			problem = err.Error()
			break
		}
		if r.attachment != nil {
			r.attachment.Close()
			r.silence()
		}
		r.attachment, r.ifindex = a, index
		r.forward(index)
		r.o.Log.Info("balancer attached", "interface", r.d.Interface, "mode", a.Mode, "mtu", mtu)
		r.announceOn(index)
	}
	r.attached.Store(problem == "")
	r.mu.Lock()
	changed := r.problems.link != problem
	r.problems.link = problem
	r.mu.Unlock()
	if changed {
		r.o.Changed()
	}
}

// forward lets the kernel find next hops for the program.
func (r *run) forward(index int) {
	var err error
	r.o.In(func() {
		var l *net.Interface
		if l, err = net.InterfaceByIndex(index); err == nil {
			err = nexthop.Forward(l)
		}
	})
	if err != nil {
		// One family may be all that is used: what does not work shows as "no route" in drops.
		r.o.Log.Warn("the kernel may find no next hops", "interface", index, "err", err)
	}
}

// sweep ages flows, returns the credit of unfinished ones, and counts those of backends with a limit.
func (r *run) sweep() {
	r.table.Sweep(table.Timeouts{})
	r.attach()
	r.follow()
	r.limitOpen()
	r.markAll()
}

// openHops opens what finds next hops and follows the routes.
func (r *run) openHops() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	r.unfollow = cancel
	r.o.In(func() {
		if r.routes, err = link.Changes(ctx); err == nil {
			r.hops, err = nexthop.Open()
		}
	})
	if err != nil {
		cancel()
	}
	return err
}

func (r *run) closeHops() error {
	r.unfollow()
	return r.hops.Close()
}

// keepHops has the kernel keep the next hops to all backends resolved: the program cannot wait for one.
func (r *run) keepHops() {
	r.hopsKept = r.part.now()
	r.hopsDue = r.hopsKept + hopsEvery
	r.mu.Lock()
	addresses := make([]netip.Addr, len(r.placed))
	for i, b := range r.placed {
		addresses[i] = b.Address
	}
	r.mu.Unlock()
	problem := ""
	if err := r.hops.Keep(addresses); err != nil {
		problem, _, _ = strings.Cut(err.Error(), "\n") // one of many is enough
		r.hopsDue = r.part.now() + sweepEvery
	}
	r.mu.Lock()
	r.problems.route = problem
	r.mu.Unlock()
}

// setProblem notes one of problems, or that it is none any more.
func (r *run) setProblem(which *string, err error) {
	text := ""
	if err != nil && !errors.Is(err, context.Canceled) {
		text = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	r.mu.Lock()
	changed := *which != text
	*which = text
	r.mu.Unlock()
	if changed {
		if text != "" {
			r.o.Log.Warn("balancer is not as configured", "err", err)
		}
		r.o.Changed()
	}
}
