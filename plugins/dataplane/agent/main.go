package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: ratchet agent --config FILE [--check]

Runs the dataplane's agent on a host, under systemd (configs/systemd/ratchet-agent.service) or a shell.

  --config FILE    what the host reports, follows and holds (docs/reference/agent.md)
  --check          only say what is wrong with FILE
  --debug          log more

Examples:
  ratchetctl dataplane agent enroll web-1 > /etc/ratchet/box-1.pem
  ratchet agent --config /etc/ratchet/agent.yaml
`

// Main is the agent applet.
func Main(args []string) int {
	f := flag.NewFlagSet("agent", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	file := f.String("config", "", "")
	check := f.Bool("check", false, "")
	debug := f.Bool("debug", false, "")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *file == "" || f.NArg() > 0:
		f.Usage()
		return 2
	}
	c, found, err := Load(*file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ratchet: agent:", err)
		return 1
	}
	fmt.Fprint(os.Stderr, found.Detail())
	switch {
	case found.Failed():
		return 1
	case *check:
		return 0
	}
	level := slog.LevelInfo
	if *debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Run(ctx, c, log); err != nil {
		fmt.Fprintln(os.Stderr, "ratchet: agent:", err)
		return 1
	}
	return 0
}
