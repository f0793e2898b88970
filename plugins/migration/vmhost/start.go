package vmhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"slices"

	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// StartOptions say how a VM begins; the zero value runs it.
type StartOptions struct {
	// Move makes it the destination of a move.
	Move string
	// Paused waits for cont.
	Paused bool
	// State is a saved one to go on from.
	State *os.File
}

// Start starts a VM.
func (h *Host) Start(ctx context.Context, s model.Shape, o StartOptions) error {
	if err := args.Check(s); err != nil {
		return fmt.Errorf("start VM: %w", err)
	}
	if err := h.admits(s); err != nil {
		return fmt.Errorf("start %s: %w", s.VM, err)
	}
	release, err := h.reserve(s)
	if err != nil {
		return err
	}
	defer release()
	m, err := h.launch(ctx, s, o)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.VM, err)
	}
	h.o.Log.Info("VM started", "vm", s.VM, "pid", m.proc.pid, "move", o.Move)
	h.add(m)
	if o.Move != "" {
		return nil // its shape is the source's, to the letter
	}
	// What QEMU has chosen is part of the board from now on: the next host must choose the same.
	full, err := m.describe(ctx)
	if err == nil {
		err = m.keep(func(r *record) { r.Shape = full })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("read shape of %s: %w", s.VM, err), h.End(ctx, s.VM, ""))
	}
	return nil
}

// admits holds a shape against what this host lets VMs have.
func (h *Host) admits(s model.Shape) error {
	var found []error
	if !slices.Contains(h.c.Accels, s.Accel) {
		found = append(found, fmt.Errorf("this host runs VMs by %v, not by %s", h.c.Accels, s.Accel))
	}
	for _, path := range []string{s.Boot.Kernel, s.Boot.Initrd, s.Boot.Firmware} {
		if path != "" && !within(path, h.c.Images) {
			found = append(found, fmt.Errorf("%s is in none of the directories for images; add its directory to `images` in the host's configuration", path))
		}
	}
	for _, d := range s.Disks {
		if p := d.Source.Local; p != "" && !within(p, h.c.Disks) {
			found = append(found, fmt.Errorf("disk %s: %s is in none of the directories for disks; add its directory to `disks` in the host's configuration", d.ID, p))
		}
	}
	return errors.Join(found...)
}

// The files that QEMU inherits, by their number in its process.
const (
	monitorFD = 3
	stateFD   = 4
)

// launch starts QEMU and waits for its greeting.
func (h *Host) launch(ctx context.Context, s model.Shape, o StartOptions) (*machine, error) {
	dir := h.vmDir(s.VM)
	for _, path := range append([]string{monitorSocket(dir)}, sockets(dir, s)...) {
		if len(path) > maxSocket {
			return nil, fmt.Errorf("the path of its socket %s is longer than %d bytes: choose a shorter `dir`", path, maxSocket)
		}
	}
	// What is left of an earlier one of that name is of no more use: nothing runs under it.
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	rec := record{Version: recordVersion, Shape: s, Move: o.Move}
	if o.Move != "" {
		for _, d := range s.Disks {
			if d.Source.Local != "" {
				rec.Made = append(rec.Made, d.Source.Local)
			}
		}
	}
	made, err := makeDisks(rec.Made, s)
	rec.Made = made
	m := &machine{host: h, name: s.VM, dir: dir, rec: rec, ended: make(chan struct{})}
	if err == nil {
		err = save(recordFile(dir), rec)
	}
	if err == nil {
		err = m.spawn(o)
	}
	if err == nil {
		if m.monitor, err = h.dialMonitor(ctx, s.VM); err == nil {
			return m, nil
		}
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		if words := lastWords(logFile(dir)); words != "" {
			err = errors.New(words)
		}
		err = fmt.Errorf("QEMU did not start: %w", err)
	}
	if m.proc != nil {
		m.proc.close()
	}
	return nil, errors.Join(err, h.forget(s.VM, o.Move))
}

// makeDisks makes the files into which local disks are mirrored.
func makeDisks(paths []string, s model.Shape) (made []string, err error) {
	for _, d := range s.Disks {
		if !slices.Contains(paths, d.Source.Local) {
			continue
		}
		f, err := os.OpenFile(d.Source.Local, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return made, fmt.Errorf("disk %s: there is a file %s already, which would be overwritten: move it away", d.ID, d.Source.Local)
		}
		if err != nil {
			return made, fmt.Errorf("make disk %s: %w", d.ID, err)
		}
		made = append(made, d.Source.Local)
		if err := errors.Join(f.Truncate(int64(d.Size)), f.Close()); err != nil {
			return made, fmt.Errorf("make disk %s: %w", d.ID, err)
		}
	}
	return made, nil
}

// spawn starts the process. The monitor's socket is there before it is, so nobody waits for it to appear.
func (m *machine) spawn(o StartOptions) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: monitorSocket(m.dir), Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	log, err := os.OpenFile(logFile(m.dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	h := m.host
	ao := args.Options{
		Dir: m.dir, MonitorFD: monitorFD, PIDFile: pidFile(m.dir), Networks: h.networks, Tokens: h.c.Tokens, NBDCredentials: h.c.GatewayTLS,
		LogConsoles: h.c.Consoles, Incoming: o.Move != "", Paused: o.Paused,
	}
	files := []*os.File{socket}
	if o.State != nil {
		ao.StateFD = stateFD
		files = append(files, o.State)
	}
	list, err := args.Build(m.rec.Shape, ao)
	if err != nil {
		return err
	}
	m.cmd = exec.Command(h.c.QEMU, list...)
	m.cmd.Dir, m.cmd.Stdout, m.cmd.Stderr, m.cmd.ExtraFiles = m.dir, log, log, files
	if err := h.starter.start(m.cmd, m.rec.Shape.Accel); err != nil {
		return err
	}
	m.proc, err = openProcess(m.cmd.Process.Pid)
	if err != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
	}
	return err
}

func sockets(dir string, s model.Shape) []string {
	var list []string
	for _, name := range args.Channels(s) {
		list = append(list, args.Socket(dir, name))
	}
	return list
}
