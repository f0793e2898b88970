package vmhost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/client"
)

const (
	// greetLimit bounds how long a QEMU may take to greet, which under TCG with other load is seconds.
	greetLimit = 30 * time.Second
	// exitLimit bounds how long a QEMU may take to vanish after it was killed or has closed its monitor.
	exitLimit = 10 * time.Second
	// redial is the time between attempts to reach a monitor again whose QEMU lives.
	redial = 500 * time.Millisecond
)

// machine is a VM whose QEMU runs.
type machine struct {
	host *Host
	name string
	dir  string
	proc *process
	cmd  *exec.Cmd // nil for one that was adopted

	unread error // why its record is of no use: it is left alone, and is no more than known

	change sync.Mutex // held while its devices or its end are dealt with

	mu      sync.Mutex
	rec     record
	monitor *qmp.Client       // nil while it is being dialled again
	stream  *stream           // of the last transfer away from here
	targets map[string]string // where disks are mirrored to, "HOST:PORT" by node
	left    bool              // the agent ends, QEMU goes on
	still   bool              // seen to stand still since the switch of a move

	channels channels
	ended    chan struct{} // nothing of the machine runs any more
}

func (m *machine) record() record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rec
}

// keep changes the record, on the disk first.
func (m *machine) keep(change func(r *record)) error {
	if m.unread != nil {
		return m.unread
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.rec
	change(&r)
	if err := save(recordFile(m.dir), r); err != nil {
		return err
	}
	m.rec = r
	return nil
}

// qmp returns the monitor.
func (m *machine) qmp() (*qmp.Client, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.monitor == nil {
		return nil, fmt.Errorf("%s: its monitor is being connected to again", m.name)
	}
	return m.monitor, nil
}

// do runs a command of our own.
func (m *machine) do(ctx context.Context, command string, args, out any) error {
	c, err := m.qmp()
	if err != nil {
		return err
	}
	return c.Do(ctx, command, args, out)
}

func (h *Host) dialMonitor(ctx context.Context, name string) (*qmp.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, greetLimit)
	defer cancel()
	o := &qmp.Options{}
	if t := h.o.Transcript; t != nil {
		o.Transcript = func(sent bool, line []byte) { t(name, sent, line) }
	}
	return qmp.Dial(ctx, "unix", monitorSocket(h.vmDir(name)), o)
}

func monitorSocket(dir string) string { return filepath.Join(dir, "monitor.sock") }
func pidFile(dir string) string       { return filepath.Join(dir, "pid") }
func logFile(dir string) string       { return filepath.Join(dir, "qemu.log") }

// adopt takes over the VM of a directory, if its QEMU lives. One that cannot be made sense of is known all the same: a host that
// denied it would have it started again, or a move of it finished elsewhere, while it runs here.
func (h *Host) adopt(name string) error {
	dir := h.vmDir(name)
	p, err := adopt(pidFile(dir))
	if p == nil || err != nil {
		return err
	}
	m := &machine{host: h, name: name, dir: dir, proc: p, ended: make(chan struct{})}
	m.rec, m.unread = loadRecord(dir)
	m.monitor, err = h.dialMonitor(context.Background(), name)
	if err := errors.Join(m.unread, err); err != nil {
		h.o.Log.Error("VM adopted, and not all of it can be used", "vm", name, "pid", p.pid, "err", err)
	} else {
		h.o.Log.Info("VM adopted", "vm", name, "pid", p.pid)
	}
	h.add(m)
	return nil
}

// add makes a machine known and follows it.
func (h *Host) add(m *machine) {
	h.mu.Lock()
	h.vms[m.name] = m
	delete(h.still, m.name)
	closed := h.closed
	h.mu.Unlock()
	c := m.monitor
	h.work.Go(func() { m.follow(c) })
	if closed { // Close has not seen it
		if h.o.Tied {
			_ = m.proc.kill()
		}
		m.leave()
	}
}

// follow passes events on until QEMU has ended or the agent leaves it. c is nil for one whose monitor has yet to answer.
func (m *machine) follow(c *qmp.Client) {
	defer close(m.ended)
	if c == nil {
		c = m.again(0)
	}
	for c != nil {
		for e := range c.Events() {
			m.saw(e)
			m.watchRest(e)
			m.host.events.publish(client.Event{Time: e.Time, VM: m.name, Name: e.Name, Data: e.Data})
		}
		c.Close()
		m.mu.Lock()
		m.monitor = nil
		m.mu.Unlock()
		said := saidAll(c.Err())
		if c = m.again(exitLimit); c != nil || !said { // a monitor closes before its process is gone
			m.rests(false)
		}
	}
	m.channels.close()
	if s := m.leaving(); s != nil {
		s.close()
	}
	m.mu.Lock()
	left, still := m.left, m.still
	m.mu.Unlock()
	m.host.mu.Lock()
	if m.host.vms[m.name] == m {
		delete(m.host.vms, m.name)
		if still {
			m.host.still[m.name] = true
		}
	}
	m.host.mu.Unlock()
	if !left || m.host.o.Tied {
		if m.cmd != nil {
			_ = m.cmd.Wait() // how it ended is in its log
		}
		m.host.o.Log.Info("VM ended", "vm", m.name, "pid", m.proc.pid)
		m.host.events.publish(client.Event{Time: time.Now(), VM: m.name, Name: client.Gone})
	}
	m.proc.close()
}

// again connects to the monitor once more, after a while in which QEMU may end; nil when it has or is to be left.
func (m *machine) again(after time.Duration) *qmp.Client {
	for dial := time.Now().Add(after); ; {
		m.mu.Lock()
		left := m.left
		m.mu.Unlock()
		if left && !m.host.o.Tied {
			return nil
		}
		if m.proc.gone(int(redial / time.Millisecond)) {
			return nil
		}
		if time.Now().Before(dial) {
			continue
		}
		c, err := m.host.dialMonitor(context.Background(), m.name)
		if err != nil {
			m.host.o.Log.Warn("monitor does not answer", "vm", m.name, "err", err)
			continue
		}
		m.mu.Lock()
		m.monitor = c
		left = m.left
		m.mu.Unlock()
		if left {
			c.Close()
		}
		return c
	}
}

// leave ends following.
func (m *machine) leave() {
	m.mu.Lock()
	m.left = true
	c := m.monitor
	m.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// End ends a VM and forgets it. move is that of the destination it must be, or empty for a VM that lives here.
func (h *Host) End(ctx context.Context, vm, move string) error {
	h.mu.Lock()
	m := h.vms[vm]
	_, starting := h.starting[vm]
	h.mu.Unlock()
	switch {
	case m == nil && starting: // what its caller has given up ends in a moment, or is a machine
		return fmt.Errorf("end %s: it is being started: try again", vm)
	case m == nil && move == "":
		return nil
	case m == nil:
		return h.forget(vm, move) // it died by itself
	}
	m.change.Lock()
	defer m.change.Unlock()
	switch is := m.record().Move; {
	case move == "" && is != "":
		return fmt.Errorf("end %s: it is the destination of move %s, which the box ends when that is undone; if the move is held for it, or no box knows it, stop it with --force --move %s", vm, is, is)
	case move != "" && is == "":
		return fmt.Errorf("end %s: it lives on this host and is not the destination of move %s", vm, move)
	case is != move:
		return fmt.Errorf("end %s: it is the destination of move %s, not of %s", vm, is, move)
	}
	if err := m.proc.kill(); err != nil {
		return fmt.Errorf("end %s: %w", vm, err)
	}
	select {
	case <-m.ended:
	case <-ctx.Done():
		return fmt.Errorf("end %s: %w", vm, ctx.Err())
	}
	return h.forget(vm, move)
}

// Kill ends a VM's process as a crash of QEMU would, for tests. What is kept of it stays.
func (h *Host) Kill(vm string) error {
	m, err := h.machine(vm)
	if err != nil {
		return err
	}
	if err := m.proc.kill(); err != nil {
		return err
	}
	<-m.ended
	return nil
}

// forget removes what is kept of a VM without a process; its last words stay.
func (h *Host) forget(vm, move string) error {
	dir := h.vmDir(vm)
	r, err := loadRecord(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || r.Move != move {
		return err // a newer one of that name, or one that nobody understands
	}
	for _, path := range r.Made {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove disk of a discarded destination: %w", err)
		}
	}
	last := filepath.Join(h.c.Dir, "last")
	if os.MkdirAll(last, 0o700) == nil {
		_ = os.Rename(logFile(dir), filepath.Join(last, vm+".log"))
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("forget %s: %w", vm, err)
	}
	h.mu.Lock()
	delete(h.still, vm)
	h.mu.Unlock()
	return nil
}

// Settle makes the destination of a move a VM that lives here. Done before is fine.
func (h *Host) Settle(vm, move string) error {
	m, err := h.machine(vm)
	if err != nil {
		return err
	}
	m.change.Lock()
	defer m.change.Unlock()
	if is := m.record().Move; is != "" && is != move {
		return fmt.Errorf("keep %s: it is the destination of move %s, not of %s", vm, is, move)
	}
	return m.keep(func(r *record) { r.Move, r.Made = "", nil })
}

// lastWords are the end of a log, for errors.
func lastWords(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b[max(0, len(b)-2000):])), "\n")
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "warning: ") })
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}
