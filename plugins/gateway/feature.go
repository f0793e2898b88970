package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/plugins/gateway/attach"
	"github.com/ratchetos/ratchet/plugins/gateway/target/loopback"
)

// Feature is the gateway plugin.
type Feature struct {
	mu        sync.Mutex
	section   plugin.Section
	session   *plugin.Session     // nil while stopped
	runners   []*runner           // in the order of the configuration
	pipelines *pipeline.Scheduler // of all volumes; nil before the first start
	disks     []*localDisk
	claims    *claims
	faces     *faces
	keeper    *attach.Keeper // who may attach, and who writes
	scrubs    *scrubs
	changed   chan struct{}
	stop      context.CancelFunc
	work      sync.WaitGroup
	unserve   context.CancelFunc // ends the servers alone
	servers   sync.WaitGroup
	// Connections from the process before, and those for the next.
	inherited, legacy legacy
}

var (
	_ plugin.Feature  = (*Feature)(nil)
	_ plugin.Invoker  = (*Feature)(nil)
	_ plugin.Handover = (*Feature)(nil)
)

// New makes the feature; it holds nothing until Start.
func New() *Feature { return &Feature{} }

// Describe implements plugin.Feature.
func (f *Feature) Describe() plugin.Descriptor {
	d := &pluginpb.Descriptor{
		Name: "gateway", Version: "1", Summary: "cached volumes over NBD in front of an object store",
		WarmSpare: true, Handover: true,
		Capabilities: []string{"CAP_SYS_RESOURCE", "CAP_IPC_LOCK"}, // for targets only, and given up at once
	}
	for _, c := range commands() {
		d.Methods = append(d.Methods, c.method)
	}
	return d
}

// ConfigSchema implements plugin.Configured.
func (f *Feature) ConfigSchema() string { return plugin.Schema(Config{}) }

// Validate implements plugin.Feature. A gateway that serves knows more than the section says: how large its volumes are.
func (f *Feature) Validate(_ context.Context, section plugin.Section) plugin.Validation {
	c, v := parse(section)
	runners := f.list()
	for i, next := range c.Volumes {
		for _, r := range runners {
			if r.name != next.Name || r.settings().Disk != next.Disk || next.Size <= 0 {
				continue
			}
			if err := r.refuses(next); err != nil {
				v.Errorf(fmt.Sprintf("volumes[%d].size", i), "%v", err)
			}
		}
	}
	return v
}

// Configure implements plugin.Feature. A started gateway takes over in place what its volumes can change while they
// serve. All else needs a new process, since disks and sockets are handed out at Start; a restart that is
// planned keeps the connections of clients, see Export.
func (f *Feature) Configure(ctx context.Context, section plugin.Section) error {
	next, v := parse(section)
	if err := v.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session != nil {
		old, _ := parse(f.section)
		if !sameButLive(old, next) {
			return plugin.ErrNeedsRestart
		}
		var refused []error
		for i, r := range f.runners {
			refused = append(refused, r.refuses(next.Volumes[i]))
		}
		if err := errors.Join(refused...); err != nil {
			return err
		}
		for i, r := range f.runners {
			if r.startsOver(next.Volumes[i]) {
				return plugin.ErrNeedsRestart
			}
		}
		for i, r := range f.runners {
			if err := r.change(ctx, next.Volumes[i]); err != nil {
				return err
			}
		}
	}
	f.section = section
	return nil
}

// How much garbage the heap may hold. Serving makes next to none, and while uploads are under way what lives is a few
// large buffers: to let the heap double would cost more memory than it saves time. But what is fetched becomes garbage
// at once, and hits wait for collections.
const (
	garbage      = 30      // percent of what lives
	leastGarbage = 8 << 20 // bytes
)

// Start implements plugin.Feature. Volumes on formatted disks serve when it returns.
func (f *Feature) Start(start context.Context, s *plugin.Session) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, _ := parse(f.section)
	if s.Log == nil {
		s.Log = slog.Default()
	}
	ctx, cancel := context.WithCancel(context.Background())
	serving, unserve := context.WithCancel(ctx)
	f.unserve = unserve
	keeper, err := keeperOf(start, s.Host, s.Log)
	if err != nil {
		cancel()
		return fmt.Errorf("read the tokens of the volumes: %w", err)
	}
	f.keeper = keeper
	scrubs, unknown := scrubsOf(start, s.Host, c.Volumes)
	if unknown != nil {
		s.Log.Warn("when volumes were scrubbed last is not known", "error", unknown)
	}
	f.scrubs = scrubs
	f.session, f.stop, f.changed, f.faces = s, cancel, make(chan struct{}, 1), &faces{exported: c.Target.Exports}
	f.runnersOf(c)
	f.openAll(ctx)
	if len(f.runners) > 0 {
		plugin.KeepGarbage(garbage, leastGarbage)
		err = f.serveNBD(serving, c.NBD, s.Handles)
	}
	if err == nil && c.Target.Enabled() {
		err = f.serveTargets(serving, s.Handles)
	} else if kept := loopback.GiveUp(); kept != nil {
		s.Log.Debug("keep capabilities that are not needed", "error", kept)
	}
	f.inherited.close() // of listeners that are gone
	if err != nil {
		return errors.Join(err, f.end())
	}
	f.work.Go(func() { f.show(ctx) })
	for _, r := range f.runners {
		f.work.Go(func() { r.scrub(ctx, c.Scrub) })
	}
	return nil
}

// runnersOf makes a runner for every volume, with what core handed out for it.
func (f *Feature) runnersOf(c Config) {
	handles := f.session.Handles
	f.claims = &claims{host: f.session.Host, wants: c.wants(), handed: handles}
	f.pipelines = newPipelines()
	disks := map[int]*localDisk{}
	for i, vc := range c.Volumes {
		at := c.diskOf(i)
		if disks[at] == nil {
			disks[at] = &localDisk{at: at, handle: handles[wantDisk(at)], cached: handles[wantCached(at)]}
			f.disks = append(f.disks, disks[at])
		}
		disks[at].tenants = append(disks[at].tenants, vc)
		r := &runner{
			name: vc.Name, at: i, config: vc, disk: disks[at], ring: handles[wantRing(vc.Name)],
			claims: f.claims, ended: make(chan struct{}), pipelines: f.pipelines, faces: f.faces, keeper: f.keeper, log: f.session.Log, state: stateStarting, changed: f.poke,
			scrubs: f.scrubs, scrubNow: make(chan scrubOrder, 1),
		}
		f.runners = append(f.runners, r)
	}
}

// openAll opens what is formatted now, all at once, and leaves the rest to the background.
func (f *Feature) openAll(ctx context.Context) {
	var now sync.WaitGroup
	for _, r := range f.runners {
		ctx, quit := context.WithCancel(ctx)
		r.quit = quit
		if !r.disk.holds(r.name) {
			f.work.Go(func() { r.run(ctx) })
			continue
		}
		now.Go(func() {
			if err := r.open(ctx); err != nil && !hopeless(err) {
				f.work.Go(func() { r.run(ctx) })
			} else {
				close(r.ended)
			}
		})
	}
	now.Wait()
}

// Stop implements plugin.Feature.
func (f *Feature) Stop(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.session == nil {
		return nil
	}
	return f.end()
}

// end closes everything, also what core handed out.
func (f *Feature) end() error {
	f.stop()
	f.servers.Wait()
	f.work.Wait()
	f.legacy.close()
	var errs []error
	for _, r := range f.runners {
		errs = append(errs, r.close())
	}
	for _, d := range f.disks {
		errs = append(errs, d.close())
	}
	for _, h := range f.session.Handles {
		if h.File != nil {
			h.File.Close() // listeners have been closed already
		}
	}
	if f.claims != nil {
		f.claims.close()
	}
	f.session, f.runners, f.disks, f.claims = nil, nil, nil, nil
	return errors.Join(errs...)
}

func (f *Feature) poke() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}
