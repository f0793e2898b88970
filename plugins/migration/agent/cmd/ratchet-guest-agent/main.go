// Ratchet-guest-agent runs inside a VM and does what the migration manager cannot do from outside: bring plugged
// processors and memory online, load drivers, move addresses to a new network card.
//
// Usage:
//
//	ratchet-guest-agent [--port NAME]    serve the manager over the virtio-serial port (default org.ratchet.agent.0)
//	ratchet-guest-agent --report         print what this guest can, as the manager sees it, and exit
//	ratchet-guest-agent --version
//
// It needs root. Installed from its package it is the systemd service ratchet-guest-agent.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/guest"
	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

// version is set by the linker.
var version = "unversioned"

// reopen is the pause before the port is looked for again.
const reopen = 250 * time.Millisecond

func main() {
	port := flag.String("port", wire.Port, "`NAME` of the virtio-serial port")
	report := flag.Bool("report", false, "print what this guest can and exit")
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	switch {
	case *showVersion:
		fmt.Println(version)
		return
	case flag.NArg() > 0:
		flag.Usage()
		os.Exit(2)
	case *report:
		if err := printReport(os.Stdout); err != nil {
			log.Error("report", "err", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	serve(ctx, *port, log)
}

func printReport(w io.Writer) error {
	result, err := guest.New(guest.Options{Version: version}).Report()
	if err != nil {
		return err
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}

// serve keeps the engine on the port, which may be unplugged and come back under another name.
func serve(ctx context.Context, name string, log *slog.Logger) {
	a := guest.New(guest.Options{Version: version, Log: log})
	if err := notify("READY=1"); err != nil {
		log.Warn("tell systemd", "err", err)
	}
	said := ""
	say := func(what string, err error) { // once, not each time it is tried again
		if text := fmt.Sprint(what, err); text != said {
			said = text
			log.Info(what, "port", name, "err", err)
		}
	}
	for ctx.Err() == nil {
		path := guest.FindPort(name)
		if path == "" {
			say("waiting for the port: give the VM a virtserialport of this name", nil)
		} else if f, err := os.OpenFile(path, os.O_RDWR, 0); err != nil {
			say("open the port", err)
		} else {
			say("serving", nil)
			if err := guest.Serve(ctx, a, f); err != nil && !errors.Is(err, os.ErrClosed) {
				say("the port ended", err)
			}
		}
		select {
		case <-time.After(reopen):
		case <-ctx.Done():
		}
	}
	_ = notify("STOPPING=1")
}
