package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/api/pki"
	"github.com/ratchetos/ratchet/core/audit"
	"github.com/ratchetos/ratchet/core/clock"
	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/firmware"
	"github.com/ratchetos/ratchet/core/host"
	"github.com/ratchetos/ratchet/core/inventory"
	"github.com/ratchetos/ratchet/core/memory"
	"github.com/ratchetos/ratchet/core/network"
	"github.com/ratchetos/ratchet/core/pid1"
	"github.com/ratchetos/ratchet/core/sandbox"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/core/update"
	"github.com/ratchetos/ratchet/hw"
)

const (
	// apiGrace is what calls have to end by themselves. Whoever can open a connection can hold one longer.
	apiGrace = 2 * time.Second
	// stopGrace bounds the ordered end of the plugins: they drain and stop.
	stopGrace = 20 * time.Second
)

// appliance is one run of core.
type appliance struct {
	options
	report     *verdict.Report // nil on a workstation
	started    time.Time
	store      state.Store
	audit      *audit.Trail
	devices    *inventory.Inventory
	system     *hw.System
	module     func(name string) error // loads one into the kernel
	builtin    config.Checker          // the plugins of this binary
	companions []companion
	host       *host.Host
	attempts   *attempt.Manager  // nil without a counter
	firmware   *firmware.Manager // of devices; nil without a counter
	staged     staging           // a package of device firmware
	tokens     *pki.Tokens
	ca         *pki.Authority
	api        *api.Server
	end        chan pid1.Action // what an operator asked for
	update     *update.Manager  // nil on a workstation
	watchdog   *watchdog
	listening  []string    // where the API is; from the start on
	settled    atomic.Bool // what only the start needed has been given back

	mu       sync.Mutex // guards what follows
	config   *config.Config
	yaml     []byte
	name     string // of the configuration, for people
	network  *network.Management
	clock    *clock.Clock
	applied  uint64 // how often a configuration was applied in this run
	pending  *pendingConfirm
	applying sync.Mutex // one change of the configuration at a time

	connecting sync.Mutex // one change of the management network at a time
}

// run starts everything, waits for the end and stops everything. The result says what the machine does next; the error
// says that the start failed.
func run(ctx context.Context, o options) (pid1.Action, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &appliance{
		options: o, watchdog: takeWatchdog(), report: o.handoff.report, started: time.Now(), tokens: &pki.Tokens{}, end: make(chan pid1.Action, 1),
	}
	// The end has its own limits, and what comes after may take its time.
	defer a.watchdog.stop()
	if a.boxed() {
		if err := pid1.Setup(); err != nil {
			a.complain("set up process 1", err)
		}
		// Now, while the other processors rest: with the first memory cgroup Linux rewrites the allocator's code. QEMU 7.2's
		// emulation, one thread a processor, may go on with the breakpoint that stands there for a moment, and every processor
		// loops on it for ever: 2 of 120 guests that allocated on both, 0 of 120 where nothing ran beside it.
		_, _ = sandbox.OpenCgroups("") // the host asks again, and says what is wrong
	}
	signals := pid1.Signals(ctx)
	if err := a.open(); err != nil {
		return pid1.PowerOff, errors.Join(err, a.close())
	}
	if a.boxed() {
		go (&pid1.Reaper{Known: a.host.Owns, Log: a.log}).Run(ctx)
	}
	a.start(ctx)
	return a.until(signals), nil
}

// until waits for the end and stops everything. What cannot be stopped in order is complained about: nothing of that
// keeps the machine from what was asked of it.
func (a *appliance) until(signals <-chan pid1.Action) pid1.Action {
	end := a.live(signals)
	if a.boxed() {
		a.say("stopping: %s", end)
	} else {
		a.say("stopping")
	}
	notifyStopping()
	a.awaitFirmware()
	if err := a.close(); err != nil {
		a.complain("stop", err)
	}
	return end
}

// awaitFirmware waits for the update of a device's firmware that runs, if any: one that is cut off can cost the device.
// Updates have a limit; the wait has one as well, for a driver that does not come back.
func (a *appliance) awaitFirmware() {
	if a.firmware == nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		a.firmware.End()
		close(ended)
	}()
	limit := time.After(a.firmware.Limit + 2*time.Minute)
	t := time.NewTicker(watchdogPing)
	defer t.Stop()
	for {
		a.watchdog.ping()
		select {
		case <-ended:
			return
		case <-t.C:
			a.say("stopping: waiting for the end of a firmware update")
		case <-limit:
			a.say("stopping: a firmware update does not end; going on without it")
			return
		}
	}
}

// live is the main loop: it waits for the end, and tells the watchdog that it does.
func (a *appliance) live(signals <-chan pid1.Action) pid1.Action {
	t := time.NewTicker(watchdogPing)
	defer t.Stop()
	for {
		a.watchdog.ping()
		select {
		case end := <-signals:
			a.ordered()
			return end
		case end := <-a.end:
			return end
		case <-t.C:
		}
	}
}

// ordered notes that somebody asked for the end: such a boot does not count as one that failed.
func (a *appliance) ordered() {
	if a.update != nil {
		a.update.Ending()
	}
}

// boxed says whether core is process 1 of an appliance.
func (a *appliance) boxed() bool { return os.Getpid() == 1 }

// open makes the parts; nothing runs yet.
func (a *appliance) open() (err error) {
	if a.stateDir != "" {
		if err := os.MkdirAll(a.stateDir, 0o711); err != nil {
			return fmt.Errorf("make state directory: %w", err)
		}
		store, err := state.Open(filepath.Join(a.stateDir, "core.db"))
		if err != nil {
			return err
		}
		a.store = store
	}
	a.openAudit()
	system, err := hw.Open(hw.Options{Log: a.log, Simulated: a.report != nil && a.report.Development})
	if err != nil {
		return err
	}
	a.system, a.devices, a.module = system, inventory.New(system, a.report), system.LoadModule
	a.builtin = config.Features(a.features)
	// Both make keys, which takes most of their time.
	var g errgroup.Group
	g.Go(func() (err error) { a.host, err = host.New(a.hostOptions()); return err })
	g.Go(a.openAPI)
	if err := g.Wait(); err != nil {
		return err
	}
	if a.report != nil && a.report.TPM.Present && a.report.BootDisk.Ledger != "" {
		a.attempts = attempt.New(a.opener())
		a.firmware = firmware.New(firmware.Options{Devices: a.devices, Hardware: system, Attempts: a.attempts, Store: a.store})
	}
	return nil
}

func (a *appliance) hostOptions() host.Options {
	programs := make([]host.Program, len(a.features))
	for i, f := range a.features {
		d := f.Describe()
		programs[i] = host.Program{Descriptor: d}
		if d.GetCompanionOf() != "" {
			a.companions = append(a.companions, companion{name: d.GetName(), of: d.GetCompanionOf(), feature: f})
		}
	}
	// Each spare costs 4 MiB, for a restart that is 8 ms faster.
	m, err := memory.Read("")
	if err != nil {
		a.complain("plugins", err)
	}
	opts := host.Options{
		Programs: programs, StateDir: a.stateDir, RunDir: filepath.Join(a.runDir, "host"), Store: a.store,
		Resources: a.devices, NoSandbox: a.noSandbox, NoSpare: m.Total < memory.Scarce, Log: a.log, Audit: a.auditLog(),
	}
	if a.report != nil && a.report.Box.Decision != verdict.Released {
		opts.Isolated = a.report.Box.Reason
	}
	return opts
}

// start brings everything up. Nothing here fails the start as a whole.
func (a *appliance) start(ctx context.Context) {
	a.readConfig(ctx)
	a.openUpdate()
	// Side by side: nothing waits for anything else, and the time to serving counts.
	var beside sync.WaitGroup
	if a.released() {
		beside.Go(func() { a.bringUpNetwork(ctx, a.config) })
	}
	beside.Go(a.listen)
	a.startPlugins(ctx)
	beside.Wait()
	if a.yaml != nil { // an isolated box is handed none
		a.reportConfig(ctx)
	}
	a.announce()
	a.serveConsole(ctx)
	if a.update != nil {
		go a.update.Run(ctx)
	}
	notifyReady(ctx, a.log)
	if a.released() {
		go a.watchDevices(ctx)
	}
	go a.giveBack(ctx)
}

// released says whether this run may use hardware; a workstation has its own network.
func (a *appliance) released() bool {
	return a.report != nil && a.report.Box.Decision == verdict.Released
}

// close stops what was opened, in the order that loses nothing: callers first, then plugins, then the state.
func (a *appliance) close() error {
	var errs []error
	within := func(limit time.Duration, shutdown func(context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		errs = append(errs, shutdown(ctx))
	}
	if a.api != nil {
		within(apiGrace, a.api.Shutdown)
	}
	if a.host != nil {
		within(stopGrace, a.host.Shutdown)
	}
	a.mu.Lock()
	if a.network != nil {
		a.network.Close()
	}
	if a.pending != nil {
		a.pending.timer.Stop()
	}
	a.mu.Unlock()
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.audit != nil {
		errs = append(errs, a.audit.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// openAudit goes on with the audit trail on STATE. Without STATE it is in memory.
func (a *appliance) openAudit() {
	failed := func(err error) { a.complain("write audit trail", err) }
	dir := ""
	if a.stateDir != "" {
		dir = filepath.Join(a.stateDir, "audit")
	}
	trail, err := audit.Open(dir, failed)
	if err != nil {
		a.complain("the audit trail is in memory and ends with this run", err)
		trail, _ = audit.Open("", failed) // memory does not fail
	}
	a.audit = trail
}

// auditLog writes to the audit trail, and to core's own log what that takes: on a box refusals alone.
func (a *appliance) auditLog() *slog.Logger {
	return slog.New(slog.NewMultiHandler(a.log.Handler(), a.audit.Handler()))
}
