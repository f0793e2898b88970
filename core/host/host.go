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
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
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

// Program is a plugin that can be enabled.
type Program struct {
	// Descriptor says what the plugin is; its name is also argv[0] of its processes.
	Descriptor plugin.Descriptor
	// Path of the executable; "" is core's own, which holds the built-in plugins.
	Path string
}

// Grant is what the configuration allows a plugin.
type Grant struct {
	Memory uint64 // bytes; 0 is no limit
	PIDs   int    // processes and threads; 0 is no limit
	// Capabilities narrows what the descriptor asks for; nil grants all of it.
	Capabilities []string
}

// Section is a plugin's part of the configuration.
type Section struct {
	JSON  []byte
	Grant Grant
}

// Options of a Host. Programs is needed, the rest has defaults.
type Options struct {
	Programs []Program
	// StateDir holds the plugins' directories and core's state file. "" is a temporary one
	// that goes with the host: a box without a state partition.
	StateDir string
	// RunDir holds sockets; "" is a temporary one.
	RunDir string
	// Store replaces the state file; the caller closes it.
	Store state.Store
	// Resources opens NICs and disks; nil on a machine where files stand in for them.
	Resources Resources
	// Isolated is why the boot verdict keeps the hardware back; no plugin is started then.
	Isolated string
	// Policy of restarts; the zero value is the product's.
	Policy supervise.Policy
	// NoSandbox runs plugins as core's user and unconfined, for debugging.
	NoSandbox bool
	// NoSpare starts no spares, on a machine short of memory.
	NoSpare bool
	// PluginLogLevel is the level of the plugins' loggers.
	PluginLogLevel slog.Level
	// LogTee gets every line that a plugin logs. It must not block.
	LogTee func(LogLine)
	Log    *slog.Logger
}

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

// Restart drains the plugin and starts it in a new process. It returns when that serves.
func (h *Host) Restart(ctx context.Context, name string) error {
	u, err := h.unit(name)
	if err != nil {
		return err
	}
	v, _ := u.look()
	switch v.state {
	case supervise.Isolated:
		return fmt.Errorf("restart %s: isolated: %s", name, v.message)
	case supervise.Absent, supervise.Stopped:
		return fmt.Errorf("restart %s: it is not enabled; enable it under plugins in the configuration", name)
	}
	if err := u.do(ctx, func(now time.Time) { u.step(now, supervise.Input{Kind: supervise.Restart}) }); err != nil {
		return fmt.Errorf("restart %s: %w", name, err)
	}
	return u.ready(ctx)
}

// Kill ends the process of a plugin at once, as a crash would, and returns when the next one serves. It is for a plugin
// that does not answer.
func (h *Host) Kill(ctx context.Context, name string) error {
	u, err := h.unit(name)
	if err != nil {
		return err
	}
	v, _ := u.look()
	if v.process == nil {
		return fmt.Errorf("kill %s: %s", name, notRunning(name, v.state, v.message))
	}
	v.process.kill()
	if _, err = u.changedFrom(ctx, v.process); err == nil {
		// It may have to sit out a back-off, which is no failure here.
		_, err = u.settled(ctx, func(s supervise.State) bool { return s.Serving() || stopped(s) })
	}
	if err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	return nil
}

// notRunning says why a plugin cannot answer, and what to do when it was never asked to run.
func notRunning(name string, s supervise.State, message string) string {
	switch {
	case s == supervise.Absent || s == supervise.Stopped:
		return fmt.Sprintf("%s is not enabled; enable it under plugins in the configuration", name)
	case message == "":
		return fmt.Sprintf("%s is %s", name, s)
	}
	return fmt.Sprintf("%s is %s: %s", name, s, message)
}

// Invoke calls a method of the plugin's management service. Request and reply are JSON;
// caller is the authenticated name of who asked.
func (h *Host) Invoke(ctx context.Context, name, method string, req []byte, caller string) ([]byte, error) {
	u, err := h.unit(name)
	if err != nil {
		return nil, err
	}
	v, _ := u.look()
	if v.process == nil {
		away := &awayError{text: notRunning(name, v.state, v.message), soon: !stopped(v.state)}
		return nil, fmt.Errorf("invoke %s of %s: %w", method, name, away)
	}
	r, err := v.process.rpc.Invoke(ctx, &pluginpb.InvokeRequest{Method: method, Json: req, Caller: caller})
	if err != nil {
		return nil, fmt.Errorf("invoke %s of %s: %w", method, name, err)
	}
	return r.GetJson(), nil
}

// Logs returns the plugin's newest n log lines, oldest first; n <= 0 means all that are kept.
func (h *Host) Logs(name string, n int) ([]LogLine, error) {
	u, err := h.unit(name)
	if err != nil {
		return nil, err
	}
	return u.ring.last(n), nil
}

// Subscribe returns a channel of state changes until ctx ends. A subscriber that does not
// read loses the oldest ones.
func (h *Host) Subscribe(ctx context.Context) <-chan Event { return h.events.subscribe(ctx) }

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
			if _, err := u.settled(ctx, stopped); err != nil {
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

// trusted says whether the program is the companion of a plugin and in core's own executable.
func (p Program) trusted() bool { return p.Path == "" && p.Descriptor.GetCompanionOf() != "" }

// allowed is what of the capabilities that a program wants is granted.
func (g Grant) allowed(p Program) ([]string, error) {
	known := sandbox.Capability
	if p.trusted() {
		known = sandbox.CompanionCapability
	}
	var out []string
	for _, c := range p.Descriptor.GetCapabilities() {
		if _, err := known(c); err != nil {
			return nil, err
		}
		granted := g.Capabilities == nil
		for _, name := range g.Capabilities {
			granted = granted || name == c
		}
		if granted {
			out = append(out, c)
		}
	}
	return out, nil
}

func stopped(s supervise.State) bool {
	return s == supervise.Stopped || s == supervise.Absent || s == supervise.Isolated
}
