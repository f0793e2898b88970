package lab

import (
	"bytes"
	"context"
	"errors"
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
	// TFTP is the folder that the guest's network serves.
	TFTP string
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
	channel, err := listen(filepath.Join(dir, "agent"))
	if err != nil {
		return nil, err
	}
	defer channel.Close()
	m.cmd = exec.Command("qemu-system-x86_64", arguments(s, dir, o)...)
	m.cmd.ExtraFiles = []*os.File{monitor, channel}
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
		return d.DialContext(ctx, "unix", filepath.Join(dir, "agent"))
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
	b, _ := os.ReadFile(filepath.Join(m.dir, "console"))
	return string(b)
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

// arguments of a QEMU whose monitor is file 3 and whose agent's channel is file 4.
func arguments(s model.Shape, dir string, o machineOptions) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", s.Accel, "-machine", s.Machine, "-cpu", s.CPU.Model,
		"-smp", fmt.Sprintf("1,maxcpus=%d", s.MaxVCPUs),
		"-m", fmt.Sprintf("%dK,slots=%d,maxmem=%dK", s.Memory.Boot>>10, s.Memory.Slots, s.Memory.Max>>10),
		"-kernel", s.Boot.Kernel, "-initrd", s.Boot.Initrd, "-append", s.Boot.Append,
		"-chardev", "socket,id=monitor,fd=3,server=on,wait=off", "-mon", "chardev=monitor,mode=control",
		"-serial", "file:" + filepath.Join(dir, "console"),
		"-device", "virtio-serial-pci,id=serial0,addr=0x2", "-chardev", "socket,id=agent,fd=4,server=on,wait=off",
		"-device", "virtserialport,bus=serial0.0,nr=1,chardev=agent,name=org.ratchet.agent.0",
	}
	for _, n := range s.NICs {
		args = append(args, "-netdev", netdev(n.ID, o.TFTP), "-device", fmt.Sprintf("%s,id=%s,netdev=net-%s,mac=%s,addr=%s", n.Model, n.ID, n.ID, n.MAC, n.Addr))
	}
	for _, d := range s.Disks {
		args = append(args, "-blockdev", fmt.Sprintf("driver=null-co,node-name=disk-%s,size=%d,read-zeroes=on", d.ID, d.Size),
			"-device", fmt.Sprintf("%s,id=%s,drive=disk-%s,serial=%s,addr=%s", d.Model, d.ID, d.ID, d.Serial, d.Addr))
	}
	if o.Incoming {
		args = append(args, "-S", "-incoming", "defer")
	}
	return args
}

func netdev(id, tftp string) string {
	arg := "user,id=net-" + id
	if tftp != "" {
		arg += ",tftp=" + tftp
	}
	return arg
}

// errGone is QEMU's end in the middle of something.
var errGone = errors.New("QEMU has ended")

// migrated waits until a migration of this QEMU has ended, on either side.
func (m *Machine) migrated(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var q struct {
			Status string `json:"status"`
			Error  string `json:"error-desc"`
		}
		if err := m.QMP.Do(ctx, "query-migrate", nil, &q); err != nil {
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
		case <-m.done:
			return fmt.Errorf("%w: %s", errGone, m.stderr.String())
		case <-ctx.Done():
			return fmt.Errorf("wait for the migration, which is %q: %w", q.Status, context.Cause(ctx))
		}
	}
}
