package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent"
	"github.com/ratchetos/ratchet/plugins/migration/hypervisor/qmp"
	"github.com/ratchetos/ratchet/plugins/migration/model"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost/args"
)

// Machine is a bare QEMU, without vmhost: what saves states, and the peer that moves by vmhost are measured against.
type Machine struct {
	Name  string
	QMP   *qmp.Client
	Agent *agent.Remote

	cmd    *exec.Cmd
	dir    string
	stderr bytes.Buffer
	done   chan struct{}
	events sync.WaitGroup
}

// machineOptions of startMachine.
type machineOptions struct {
	// Incoming waits for a state over the monitor's migrate-incoming.
	Incoming bool
	// Event gets the monitor's events.
	Event func(qmp.Event)
}

// listen makes a socket that QEMU inherits: whoever connects before it runs waits in its queue.
func listen(path string) (*os.File, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	return l.File()
}

// startMachine starts a QEMU in dir. It dies with this process.
func startMachine(ctx context.Context, dir string, s model.Shape, o machineOptions) (*Machine, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &Machine{Name: filepath.Base(dir), dir: dir, done: make(chan struct{})}
	monitor, err := listen(filepath.Join(dir, "qmp"))
	if err != nil {
		return nil, err
	}
	defer monitor.Close()
	arguments, err := args.Build(s, args.Options{
		Dir: dir, MonitorFD: 3, Incoming: o.Incoming,
		Networks: map[string]args.Network{Network: args.User()},
	})
	if err != nil {
		return nil, err
	}
	m.cmd = exec.Command("qemu-system-x86_64", arguments...)
	m.cmd.ExtraFiles = []*os.File{monitor}
	m.cmd.Stdout, m.cmd.Stderr = &m.stderr, &m.stderr
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.start(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	m.QMP, err = qmp.Dial(ctx, "unix", filepath.Join(dir, "qmp"), nil)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("%w: QEMU said: %s", err, strings.TrimSpace(m.stderr.String()))
	}
	m.events.Go(func() {
		for e := range m.QMP.Events() {
			if o.Event != nil {
				o.Event(e)
			}
		}
	})
	m.Agent = agent.New(func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", args.Socket(dir, agentChannel))
	}, agent.Options{})
	return m, nil
}

// start forks from a thread that lives as long as QEMU: the kernel sends the death signal when that thread ends (prctl(2)).
func (m *Machine) start() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait()
			close(m.done)
		}
	}()
	return <-started
}

// Kill ends QEMU as a power cut would, and waits until it is gone.
func (m *Machine) Kill() {
	_ = m.cmd.Process.Kill()
	<-m.done
}

// PID is QEMU's.
func (m *Machine) PID() int { return m.cmd.Process.Pid }

// Console is what the guest wrote to its serial port.
func (m *Machine) Console() string {
	b, _ := os.ReadFile(filepath.Join(m.dir, consoleChannel+".log"))
	return string(b)
}

// Ended tells how QEMU ended and what it said last, "" while it runs.
func (m *Machine) Ended() string {
	select {
	case <-m.done:
		return m.cmd.ProcessState.String() + ": " + strings.TrimSpace(m.stderr.String())
	default:
		return ""
	}
}

// Close ends it.
func (m *Machine) Close() {
	m.Kill()
	if m.QMP != nil {
		m.QMP.Close()
		m.events.Wait()
	}
	if m.Agent != nil {
		m.Agent.Close()
	}
}

// migrated waits until a migration of this QEMU has ended, on either side.
func (m *Machine) migrated(ctx context.Context) error {
	err := migrated(ctx, func(command string, out any) error { return m.QMP.Do(ctx, command, nil, out) })
	if err != nil && m.Ended() != "" {
		return fmt.Errorf("%w: QEMU has ended: %s", err, m.Ended())
	}
	return err
}

func migrated(ctx context.Context, do func(command string, out any) error) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var q struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := do("query-migrate", &q); err != nil {
			return err
		}
		switch q.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("migration %s: %s", q.Status, q.Error)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the migration, which is %q: %w", q.Status, context.Cause(ctx))
		}
	}
}
