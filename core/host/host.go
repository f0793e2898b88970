package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ratchetos/ratchet/core/notify"
	"github.com/ratchetos/ratchet/core/sandbox"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/core/supervise"
)

// firstUID is the first user id of a plugin, in the range that systemd keeps for services
// whose users exist only while they run.
const firstUID = 61184

// coreSpace is core's own part of the state store.
const coreSpace = "core"

var errShutdown = errors.New("the plugin host has been shut down")

// Host runs the plugins. Make it with New and end it with Shutdown.
type Host struct {
	opts       Options
	policy     supervise.Policy
	log        *slog.Logger
	ca         *authority
	store      state.Store
	ownStore   bool
	resources  Resources
	notify     *notify.Server
	cgroups    *sandbox.Cgroup // nil without cgroup v2
	privileged bool            // may make namespaces and change users
	units      map[string]*unit
	events     events
	temporary  []string // directories to remove at the end
	serial     atomic.Uint64

	ending     context.Context // ends with the first Shutdown, and with it what waits in Apply
	end        context.CancelFunc
	applyMu    sync.Mutex
	generation uint64 // of the configuration, under applyMu
	claimMu    sync.Mutex
	closing    sync.Once
}

// New makes a Host. It starts no plugin; see Apply.
func New(opts Options) (_ *Host, err error) {
	h := &Host{
		opts: opts, policy: opts.Policy.WithDefaults(), log: opts.Log,
		privileged: os.Geteuid() == 0, units: make(map[string]*unit),
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	if h.opts.Audit == nil {
		h.opts.Audit = h.log
	}
	h.ending, h.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			h.cleanup()
		}
	}()
	if err := h.directories(); err != nil {
		return nil, err
	}
	if h.store = opts.Store; h.store == nil {
		if h.store, err = state.Open(filepath.Join(h.opts.StateDir, "core.db")); err != nil {
			return nil, err
		}
		h.ownStore = true
	}
	h.resources = router{
		local: Local{Dir: filepath.Join(h.opts.StateDir, "plugins")}, methods: methods{opts.Programs}, hardware: opts.Resources,
	}
	if h.ca, err = newAuthority(); err != nil {
		return nil, err
	}
	if h.notify, err = notify.Listen(filepath.Join(h.opts.RunDir, "notify")); err != nil {
		return nil, err
	}
	if h.privileged {
		if h.cgroups, err = sandbox.OpenCgroups(""); err != nil {
			h.log.Info("plugins run without limits", "why", err)
		}
	}
	for _, p := range opts.Programs {
		if err := h.add(p); err != nil {
			return nil, err
		}
	}
	for _, u := range h.units {
		if opts.Isolated != "" { // before anything else can be asked of it
			u.step(time.Now(), supervise.Input{Kind: supervise.Isolate, Why: opts.Isolated})
		}
		go u.run()
	}
	go func() {
		if err := h.notify.Serve(h.notified); err != nil {
			h.log.Error("plugin notifications ended", "err", err)
		}
	}()
	return h, nil
}

// directories makes those that are missing.
func (h *Host) directories() error {
	for _, d := range []*string{&h.opts.StateDir, &h.opts.RunDir} {
		if *d == "" {
			tmp, err := os.MkdirTemp("", "ratchet")
			if err != nil {
				return fmt.Errorf("make temporary directory: %w", err)
			}
			*d = tmp
			h.temporary = append(h.temporary, tmp)
		}
		if err := os.MkdirAll(*d, 0o711); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	plugins := filepath.Join(h.opts.StateDir, "plugins")
	if err := os.MkdirAll(plugins, 0o711); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	// Plugins run as other users and pass through here to what is theirs.
	if err := errors.Join(os.Chmod(h.opts.RunDir, 0o711), os.Chmod(h.opts.StateDir, 0o711)); err != nil {
		return err
	}
	if at := impassable(h.opts.RunDir); at != "" && h.privileged && !h.opts.NoSandbox {
		h.log.Warn("plugins run as users of their own, which cannot reach their sockets: chmod o+x the folder, or choose another one for --run",
			"folder", at, "sockets", h.opts.RunDir)
	}
	return nil
}

// impassable is the first folder on the way to dir that only its owner and group may pass through, "" if there is none.
func impassable(dir string) (at string) {
	dir, err := filepath.Abs(dir)
	for ; err == nil; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm()&0o001 == 0 {
			at = dir // one nearer to the root is found later, and comes first
		}
		if dir == filepath.Dir(dir) {
			return at
		}
	}
	return at
}

func (h *Host) add(p Program) error {
	name := p.Descriptor.GetName()
	if name == "" || filepath.Base(name) != name {
		return fmt.Errorf("add plugin %q: not a name", name)
	}
	if h.units[name] != nil {
		return fmt.Errorf("add plugin %s: there are two of that name", name)
	}
	uid := 0
	if h.privileged && !h.opts.NoSandbox {
		var err error
		if uid, err = h.uid(name); err != nil {
			return err
		}
	}
	h.units[name] = newUnit(h, p, uid)
	return nil
}

// uid is the plugin's user id on this box; once given it never changes, since files carry it.
func (h *Host) uid(name string) (int, error) {
	ctx := context.Background()
	key := "uid/" + name
	v, found, err := h.store.Get(ctx, coreSpace, key)
	if err != nil {
		return 0, err
	}
	uid := 0
	if found {
		if _, err := fmt.Sscan(string(v), &uid); err != nil {
			return 0, fmt.Errorf("read uid of plugin %s: %w", name, err)
		}
		return uid, nil
	}
	given, err := h.store.List(ctx, coreSpace, "uid/")
	if err != nil {
		return 0, err
	}
	uid = firstUID + len(given)
	return uid, h.store.Put(ctx, coreSpace, key, fmt.Append(nil, uid))
}

// notified passes what a process said to its plugin. Only the process that serves is heard.
func (h *Host) notified(m notify.Message) {
	for _, u := range h.units {
		v, _ := u.look()
		if v.process == nil || v.process.pid() != m.PID {
			continue
		}
		switch {
		case m.Trigger:
			u.input(supervise.Broken, "the plugin triggered its watchdog")
		case m.Watchdog:
			u.input(supervise.Pet, "")
		}
		return
	}
}

// Owns says whether pid is a child that the host waits for itself, for the reaper of PID 1.
func (h *Host) Owns(pid int) bool {
	for _, u := range h.units {
		if u.ownsPID(pid) {
			return true
		}
	}
	return false
}

// Shutdown stops all plugins in order, at once and within ctx, and ends the host.
func (h *Host) Shutdown(ctx context.Context) error {
	var errs []error
	h.closing.Do(func() {
		h.end()
		h.applyMu.Lock()
		defer h.applyMu.Unlock()
		for _, u := range h.units {
			u.input(supervise.Disable, "shutting down")
		}
		for _, u := range h.units {
			if _, err := u.settled(ctx, view.stopped); err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", u.name, err))
			}
		}
		for _, u := range h.units {
			close(u.quit)
			<-u.done
			u.releaseAll()
		}
		h.cleanup()
	})
	return errors.Join(errs...)
}

func (h *Host) cleanup() {
	if h.notify != nil {
		_ = h.notify.Close()
	}
	if h.ownStore {
		if err := h.store.Close(); err != nil {
			h.log.Error("close state", "err", err)
		}
	}
	for _, d := range h.temporary {
		_ = os.RemoveAll(d)
	}
}

func (h *Host) unit(name string) (*unit, error) {
	if u := h.units[name]; u != nil {
		return u, nil
	}
	return nil, fmt.Errorf("plugin %q: there is no such plugin; there are: %v", name, h.names())
}

func (h *Host) names() []string {
	names := make([]string, 0, len(h.units))
	for n := range h.units {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// stopped says that the plugin does not run and is not to.
func (v view) stopped() bool {
	return v.state == supervise.Stopped || v.state == supervise.Absent || v.state == supervise.Isolated
}
