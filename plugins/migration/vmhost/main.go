package vmhost

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

const usage = `usage: ratchet vmhost --config FILE [--check] [--debug]
       ratchet vmhost --config FILE start SHAPE [--paused]
       ratchet vmhost --config FILE stop NAME [--force [--move MOVE]]
       ratchet vmhost --config FILE list
       ratchet vmhost --config FILE shape NAME

Runs the agent on a hypervisor host with bare QEMU, under systemd (configs/systemd/ratchet-vmhost.service) or a shell.
The others ask an agent that runs: to start a VM from a file with its shape, to shut one down or, by force, to cut its
power, to list what there is, and to print the shape of a VM as it is now. VMs go on when the agent ends. The destination
of a move, which list shows as such, is the box's to end: by --move only where the move is held for that, or no box knows it.

  --config FILE    networks, directories and limits of this host (docs/reference/vmhost.md)
  --check          only say what is wrong with FILE
  --debug          log more

Examples:
  ratchetctl migrate host enroll a > /etc/ratchet/vmhost.pem
  ratchet vmhost --config /etc/ratchet/vmhost.yaml
  ratchet vmhost --config /etc/ratchet/vmhost.yaml start web.yaml
  ratchet vmhost --config /etc/ratchet/vmhost.yaml shape web > web-now.json
`

// Main is the vmhost applet.
func Main(args []string) int {
	f := flag.NewFlagSet("vmhost", flag.ContinueOnError)
	f.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	file := f.String("config", "", "")
	check := f.Bool("check", false, "")
	debug := f.Bool("debug", false, "")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case *file == "":
		f.Usage()
		return 2
	}
	c, found, err := Load(*file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ratchet: vmhost:", err)
		return 1
	}
	fmt.Fprint(os.Stderr, found.Detail())
	switch {
	case found.Failed():
		return 1
	case *check:
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if f.NArg() > 0 {
		err = operate(ctx, c, f.Arg(0), f.Args()[1:])
	} else {
		err = run(ctx, c, *debug)
	}
	if errors.Is(err, errUsage) {
		f.Usage()
		return 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "ratchet: vmhost:", err)
		return 1
	}
	return 0
}

// run is the agent until ctx ends.
func run(ctx context.Context, c *Config, debug bool) error {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	h, err := New(*c, Options{Log: log})
	if err != nil {
		l.Close()
		return err
	}
	log.Info("serving", "host", h.Name(), "address", l.Addr().String(), "vms", len(h.machines()))
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("cannot tell systemd", "err", err)
	}
	return errors.Join(h.Serve(ctx, l), h.Close())
}

var errUsage = errors.New("wrong arguments")

// stopLimit is how long a guest may take to shut down.
const stopLimit = 2 * time.Minute

// operate carries out a verb through the agent that runs.
func operate(ctx context.Context, c *Config, verb string, args []string) error {
	f := flag.NewFlagSet(verb, flag.ContinueOnError)
	f.Usage = func() {}
	paused, force, move := f.Bool("paused", false, ""), f.Bool("force", false, ""), f.String("move", "", "")
	// Flags may stand on either side of the name.
	var name string
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		name, args = args[0], args[1:]
	}
	if err := f.Parse(args); err != nil || (name == "") != (verb == "list") || f.NArg() > 0 || *move != "" && !*force {
		return errUsage
	}
	agent := client.Local((&Host{c: *c}).Socket())
	defer agent.Close()
	switch verb {
	case "start":
		s, err := readShape(name)
		if err != nil {
			return err
		}
		return agent.Start(ctx, client.Start{Shape: s, Paused: *paused})
	case "stop":
		if *force {
			return agent.End(ctx, name, *move)
		}
		return stopVM(ctx, agent, name)
	case "list":
		return list(ctx, agent)
	case "shape":
		s, err := agent.Shape(ctx, name)
		if err != nil {
			return err
		}
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return errUsage
}

// readShape reads a file in the language of configurations, of which JSON is a part.
func readShape(path string) (model.Shape, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return model.Shape{}, fmt.Errorf("read shape: %w", err)
	}
	var s model.Shape
	found := config.Decode(path, text, &s, nil)
	fmt.Fprint(os.Stderr, found.Detail())
	if found.Failed() {
		return s, fmt.Errorf("%s is no shape of a VM: see docs/howto/migration-hosts.md", path)
	}
	if s.Version == 0 {
		s.Version = model.ShapeVersion
	}
	return s, nil
}

// stopVM asks the guest to shut down and waits until it has.
func stopVM(ctx context.Context, agent *client.Client, name string) error {
	limit, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	asked := make(chan error, 1)
	err := agent.Events(limit, func() {
		go func() {
			if _, err := agent.Do(limit, name, "system_powerdown", nil); err != nil {
				asked <- err
				cancel()
			}
		}()
	}, func(e client.Event) {
		if e.VM == name && e.Name == client.Gone {
			asked <- nil
			cancel()
		}
	})
	select {
	case err := <-asked:
		return err
	default:
	}
	if limit.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%s has not shut down after %v: look at its console, or cut its power with --force", name, stopLimit)
	}
	return err
}

func list(ctx context.Context, agent *client.Client) error {
	all, err := agent.VMs(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "VM\tSTATE\tVCPUS\tMEMORY\tMOVE")
	for _, v := range all {
		state := v.State
		if state == hypervisor.Unknown {
			state = "no answer"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d MiB\t%s\n", v.Name, state, v.VCPUs, v.Memory>>20, v.Move)
	}
	return w.Flush()
}
