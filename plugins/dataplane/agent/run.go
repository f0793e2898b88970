package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/dataplane/control"
)

// side is the host's side of one of the dataplane's systems. Its maker has set its handlers on the clients.
type side interface {
	// Run works until ctx ends. What is pinned stays.
	Run(ctx context.Context) error
}

// resources are what sides are made of.
type resources struct {
	log     *slog.Logger
	name    string            // this host's, as its boxes have enrolled it
	clients []*control.Client // one for each box, in the order of the file
	pins    string            // a directory for this side alone, on a bpffs
}

// Run does what the configuration asks for until ctx ends, which is no error.
func Run(ctx context.Context, c *Config, log *slog.Logger) error {
	clients, name, err := c.clients(log)
	if err != nil {
		return err
	}
	makers := sidesOf(c)
	if err := removeOthers(c.Pins, makers); err != nil {
		log.Warn("what a section that is gone has left in the kernel could not be removed", "err", err)
	}
	var sides []side
	for _, m := range makers {
		r := resources{log: log.With("part", m.name), name: name, clients: clients, pins: filepath.Join(c.Pins, m.name)}
		if m.pins {
			if err := makePins(c.Pins, r.pins); err != nil {
				return err
			}
		}
		s, err := m.make(r)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		sides = append(sides, s)
	}
	if len(sides) == 0 {
		log.Warn("nothing to do: the file names boxes only")
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, client := range clients {
		g.Go(func() error { return client.Run(ctx) })
	}
	for _, s := range sides {
		g.Go(func() error { return s.Run(ctx) })
	}
	if name := c.deviceName(); name != "" {
		d := &device{name: name}
		g.Go(func() error { return d.follow(ctx) })
	}
	g.Go(func() error { return watchdog(ctx) })
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // nobody to tell is no error
	err = g.Wait()
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// removeOthers unpins the programs of sides that the file does not ask for any more: nobody would end them.
func removeOthers(root string, wanted []maker) error {
	var errs []error
	for _, name := range []string{"decapsulation", "groups", "attachments", "leases"} {
		dir := filepath.Join(root, name)
		if !slices.ContainsFunc(wanted, func(m maker) bool { return m.name == name }) && onBPFFS(dir) {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// clients makes one client a box. All boxes must know the host by one name: it is in what they tell each other.
func (c *Config) clients(log *slog.Logger) (clients []*control.Client, name string, err error) {
	for i, b := range c.Boxes {
		id, err := control.ReadIdentity(b.Identity)
		if err != nil {
			return nil, "", err
		}
		if i == 0 {
			name = id.Name
		}
		if id.Name != name {
			return nil, "", fmt.Errorf("box %s knows this host as %s, box %s as %s: enrol it under one name", c.Boxes[0].Address, name, b.Address, id.Name)
		}
		clients = append(clients, control.NewClient(control.ClientOptions{Address: b.Address, Identity: id, Log: log}))
	}
	return clients, name, nil
}

// watchdog keeps systemd's quiet, if it has one.
func watchdog(ctx context.Context) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) // the next one may come through
		}
	}
}

// bpffs is where systemd and everyone else mounts it.
const bpffs = "/sys/fs/bpf"

// makePins makes a directory for programs; the bpffs is mounted if nobody has done so.
func makePins(root, dir string) error {
	var st unix.Statfs_t
	if rel, err := filepath.Rel(bpffs, root); err == nil && filepath.IsLocal(rel) {
		if err := unix.Statfs(bpffs, &st); err == nil && st.Type != unix.BPF_FS_MAGIC {
			if err := unix.Mount("bpf", bpffs, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
				return fmt.Errorf("mount bpffs at %s: %w", bpffs, err)
			}
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make directory for programs: %w", err)
	}
	if !onBPFFS(dir) {
		return fmt.Errorf("pins: %s is not on a bpffs; use a directory below %s", root, bpffs)
	}
	return nil
}

func onBPFFS(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.BPF_FS_MAGIC
}
