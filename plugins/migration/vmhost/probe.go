package vmhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// probeLimit bounds asking a QEMU what it can do.
const probeLimit = 30 * time.Second

// prober knows what the host's QEMU can do. It is asked once, and again when its program has changed.
type prober struct {
	host *Host

	mu     sync.Mutex
	of     [2]int64 // size and time of the program that was asked
	answer *model.Host
}

func (p *prober) result(ctx context.Context) (model.Host, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	info, err := os.Stat(p.host.c.QEMU)
	if err != nil {
		return model.Host{}, fmt.Errorf("look at QEMU: %w; name it by `qemu` in the host's configuration", err)
	}
	of := [2]int64{info.Size(), info.ModTime().UnixNano()}
	if p.answer == nil || p.of != of {
		ctx, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		h, err := p.ask(ctx)
		if err != nil {
			return model.Host{}, fmt.Errorf("ask %s what it can do: %w", p.host.c.QEMU, err)
		}
		p.of, p.answer = of, &h
	}
	return *p.answer, nil
}

// ask runs a QEMU without a board that waits for a migration: then it also says whether post-copy is possible here.
func (p *prober) ask(ctx context.Context) (h model.Host, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return h, err
	}
	defer theirs.Close()
	cmd := exec.Command(p.host.c.QEMU, "-machine", "none", "-accel", p.host.c.Accels[0], "-S", "-nodefaults", "-no-user-config", "-display", "none",
		"-incoming", "defer", "-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control")
	cmd.ExtraFiles = []*os.File{theirs}
	var words strings.Builder
	cmd.Stderr = &words
	if err := p.host.starter.start(cmd, p.host.c.Accels[0]); err != nil {
		ours.Close()
		return h, err
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(words.String()))
		}
	}()
	theirs.Close()
	c, err := qmp.New(ctx, ours, nil)
	if err != nil {
		return h, err
	}
	defer c.Close()
	h.Hypervisor, h.Accels, h.MaxVCPUs = c.Version(), slices.Clone(p.host.c.Accels), 255
	if err := errors.Join(machines(ctx, c, &h), cpus(ctx, c, &h), devices(ctx, c, &h)); err != nil {
		return h, err
	}
	h.PostCopy = c.Do(ctx, "migrate-set-capabilities", args.Object{
		"capabilities": []args.Object{{"capability": "postcopy-ram", "state": true}},
	}, nil) == nil
	return h, nil
}

func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "monitor"), os.NewFile(uintptr(fds[1]), "monitor")
	defer ours.Close()
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c, theirs, nil
}

func machines(ctx context.Context, c *qmp.Client, h *model.Host) error {
	var list []struct {
		Name       string
		Deprecated bool
	}
	if err := c.Do(ctx, "query-machines", nil, &list); err != nil {
		return err
	}
	for _, m := range list {
		if m.Name != "none" {
			h.Machines = append(h.Machines, m.Name)
		}
	}
	slices.Sort(h.Machines)
	return nil
}

func cpus(ctx context.Context, c *qmp.Client, h *model.Host) error {
	var list []cpuDefinition
	if err := c.Do(ctx, "query-cpu-definitions", nil, &list); err != nil {
		return err
	}
	for _, d := range list {
		if slices.Contains(d.Unavailable, "kvm") || d.Deprecated {
			continue
		}
		f, err := d.features(ctx, c.Do)
		var refused *qmp.Error
		if errors.As(err, &refused) {
			continue // a model that this accelerator cannot run
		}
		if err != nil {
			return err
		}
		h.CPUs = append(h.CPUs, model.CPU{Model: d.Name, Features: f})
	}
	slices.SortFunc(h.CPUs, func(a, b model.CPU) int { return strings.Compare(a.Model, b.Model) })
	return nil
}

func devices(ctx context.Context, c *qmp.Client, h *model.Host) error {
	var list []struct{ Name string }
	if err := c.Do(ctx, "qom-list-types", args.Object{"implements": "device", "abstract": false}, &list); err != nil {
		return err
	}
	for _, d := range list {
		if !strings.HasSuffix(d.Name, "-x86_64-cpu") {
			h.Devices = append(h.Devices, d.Name)
		}
	}
	slices.Sort(h.Devices)
	return nil
}
