package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"google.golang.org/grpc"

	"github.com/ratchetos/ratchet/core/memory"
	"github.com/ratchetos/ratchet/core/plugin/pluginpb"
	"github.com/ratchetos/ratchet/core/plugin/wire"
	"github.com/ratchetos/ratchet/core/sandbox"
)

// stopGrace bounds Feature.Stop when core is gone or the process got SIGTERM.
const stopGrace = 5 * time.Second

// ServeOptions are for tests and odd plugins; the zero value is right for all others.
type ServeOptions struct {
	// Log replaces the JSON logger on descriptor 2.
	Log *slog.Logger
	// Sandbox replaces the confinement that Serve applies at the start; nil is the
	// package's default deny list.
	Sandbox *sandbox.Profile
}

// Serve runs f as the plugin process it was called in and returns the exit status. It
// returns when core asked the plugin to stop, when core is gone, or after SIGTERM.
func Serve(f Feature, opts ServeOptions) int {
	shake := wire.Handshake()
	if os.Getenv(shake.MagicCookieKey) != shake.MagicCookieValue {
		fmt.Fprintln(os.Stderr, "this is a plugin: core starts it; enable it under plugins in the configuration and see `ratchetctl plugin list`")
		return 2
	}
	stderr := wire.NewStderr()
	level := new(slog.LevelVar)
	log := opts.Log
	if log == nil {
		log = slog.New(logHandler(stderr, level))
	}
	if err := serve(f, opts, log, level); err != nil {
		log.Error("plugin ended", "err", err)
		return 1
	}
	return 0
}

// logHandler writes the lines that core keeps. Durations are written with their unit: as a number nobody can tell.
func logHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}})
}

func serve(f Feature, opts ServeOptions, log *slog.Logger, level *slog.LevelVar) error {
	boot, control, err := inherit()
	if err != nil {
		return err
	}
	level.Set(slog.Level(boot.LogLevel))
	// The name that pgrep, top and the kernel's word about memory show; that of the file is "exe" for all. Without /proc
	// it stays that.
	_ = os.WriteFile("/proc/self/comm", []byte(boot.Name), 0)
	tlsConfig, err := boot.ServerTLS()
	if err != nil {
		return err
	}
	profile := opts.Sandbox
	if profile == nil {
		profile = sandbox.Default()
	}
	if boot.Sandbox {
		if err := profile.Confine(); err != nil {
			return fmt.Errorf("confine plugin: %w", err)
		}
	}

	handles := newHandleTable()
	host := newHostClient(handles)
	s := &server{
		feature: f, log: log, control: control, handles: handles, host: host,
		watch: newWatch(boot.Heartbeat),
	}
	if boot.Sandbox {
		s.confine = profile.ConfineFiles
	}

	// stop ends the process in order, whoever asks first.
	var once sync.Once
	ended := make(chan error, 1)
	stop := func(why string, cause error) {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
			defer cancel()
			log.Info("stopping", "why", why)
			ended <- errors.Join(cause, s.stopFeature(ctx))
		})
	}
	go func() {
		err := handles.receive(control, host)
		if boot.Outlive {
			log.Warn("core is gone; serving on", "err", err)
			return
		}
		if s.stopped.Load() { // core hangs up after Stop
			stop("core asked for it", nil)
			return
		}
		stop("core is gone", nil)
	}()
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	go func() {
		<-term
		stop("SIGTERM", nil)
	}()
	go pet(s.watch.done)
	go memory.Trim(s.watch.done)

	end, err := newEndpoint(tlsConfig, func(r grpc.ServiceRegistrar) { pluginpb.RegisterPluginServer(r, s) })
	if err != nil {
		return err
	}
	go func() {
		err := end.serve()
		// Core called go-plugin's Shutdown, after our own Stop if all went well.
		stop("core asked for it", err)
	}()
	err = <-ended
	close(s.watch.done)
	host.close()
	return err
}

// inherit takes the descriptors that core left for the process.
func inherit() (*wire.Bootstrap, *wire.Control, error) {
	// One os.File for each descriptor and no other: a forgotten second one would close
	// it, or whatever has its number by then, when it is collected.
	bf := os.NewFile(wire.BootstrapFD, "bootstrap")
	boot, err := wire.ReadBootstrap(bf)
	bf.Close()
	if err != nil {
		return nil, nil, err
	}
	control, err := wire.NewControl(os.NewFile(wire.ControlFD, "control"))
	if err != nil {
		return nil, nil, err
	}
	return boot, control, nil
}

// pet keeps the service manager's watchdog quiet, be it core or systemd.
func pet(done <-chan struct{}) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}
}
