package core

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/core/pid1"
	"github.com/ratchetos/ratchet/core/plugin"
)

const usage = `usage: ratchet core --config FILE [--state DIR] [--run DIR]

Runs the plugin host on a workstation, under a shell or systemd. On an appliance init starts it.

  --config FILE    configuration; "tpm: none" runs without a counter
  --state DIR      state of core and plugins (default ${XDG_STATE_HOME:-~/.local/state}/ratchet)
  --run DIR        sockets (default ${XDG_RUNTIME_DIR:-/run}/ratchet)
  --no-sandbox     plugins run as this user and unconfined, for debugging

Examples:
  ratchet core --config configs/workstation.yaml
  ratchetctl --address unix:${XDG_RUNTIME_DIR:-/run}/ratchet/api.sock status
`

// Main is the core applet. On an appliance it does not return.
func Main(args []string, features []plugin.Feature) int {
	h, err := takeHandoff()
	if err != nil {
		// Without a report nothing says that the hardware may be used; core goes on as on a workstation would
		// be wrong, so the box stays isolated with its console alive.
		fmt.Fprintln(os.Stderr, "ratchet: core:", err)
		if os.Getpid() != 1 {
			return 1
		}
		h = isolatedHandoff(err)
	}
	o := options{features: features, handoff: h}
	if h.report == nil {
		if code := o.parse(args, os.Stderr); code >= 0 {
			return code
		}
	} else {
		o.onBox()
	}
	if os.Getpid() != 1 {
		if _, err := run(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, "ratchet: core:", err)
			return 1
		}
		return 0
	}
	return pid1.Guard(o.log, h.restartAfter(slot.OpenFirmware().There()), func() int {
		end, err := run(context.Background(), o)
		if err != nil {
			// The box has no other program to fall back to: an operator reads why, or another boot does better.
			fmt.Fprintln(os.Stderr, "ratchet: core:", err)
			return 1
		}
		pid1.Finish(end, o.log)
		return 0
	})
}

// restartAfter is how long a box without core waits for somebody who reads why. Where boots are counted the next ones
// lead to the other slot and then to the recovery console, which waits. Elsewhere it would restart for ever: it stays.
func (h handoff) restartAfter(variables bool) time.Duration {
	if h.report == nil || h.report.Slot == "" || !variables {
		return 0
	}
	return time.Minute
}

// isolatedHandoff is the report for a box whose own cannot be read: nothing is used.
func isolatedHandoff(err error) handoff {
	return handoff{report: &verdict.Report{Version: verdict.ReportVersion, Box: verdict.Verdict{
		Decision: verdict.Isolated, Code: "report-unreadable", Reason: err.Error(), Next: "restart the box; reflash it if this stays",
	}}}
}

// options of one run.
type options struct {
	features  []plugin.Feature
	handoff   handoff
	file      string // workstation: the configuration file
	stateDir  string
	runDir    string
	noSandbox bool
	log       *slog.Logger
}

// parse reads the command line of a workstation; a result of 0 or more is the exit status.
func (o *options) parse(args []string, stderr io.Writer) int {
	f := flag.NewFlagSet("core", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage) }
	f.StringVar(&o.file, "config", "", "")
	f.StringVar(&o.stateDir, "state", "", "")
	f.StringVar(&o.runDir, "run", "", "")
	f.BoolVar(&o.noSandbox, "no-sandbox", false, "")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case o.file == "" || f.NArg() > 0:
		f.Usage()
		return 2
	}
	if o.stateDir == "" {
		o.stateDir = filepath.Join(envOr("XDG_STATE_HOME", filepath.Join(envOr("HOME", "/var/lib"), ".local", "state")), "ratchet")
	}
	if o.runDir == "" {
		o.runDir = filepath.Join(envOr("XDG_RUNTIME_DIR", "/run"), "ratchet")
	}
	// Plugins are other users in other folders: what they are told must not depend on ours.
	for _, path := range []*string{&o.file, &o.stateDir, &o.runDir} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			fmt.Fprintln(stderr, "ratchet: core:", err)
			return 1
		}
		*path = abs
	}
	// A box comes up without a configuration, to be given one. Here it is a slip of who typed the name, and the
	// defaults would open the API to the network.
	if _, err := os.ReadFile(o.file); err != nil {
		fmt.Fprintln(stderr, "ratchet: core: read configuration:", err)
		return 1
	}
	o.log = slog.New(slog.NewTextHandler(stderr, nil))
	return -1
}

// onBox has fixed places. The state partition is there only when init mounted it.
func (o *options) onBox() {
	o.runDir = "/run/ratchet"
	if o.handoff.report.BootDisk.State != "" && mounted(stateMount) {
		o.stateDir = stateMount
	}
	// The console is for people and slow: core says there what they need, and logs what went wrong.
	o.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
