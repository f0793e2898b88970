package vmhost

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a QEMU, by its pidfd.
type process struct {
	pid int
	fd  *os.File
}

// adopt finds the QEMU that holds the lock on a PID file; nil when none does.
func adopt(pidFile string) (*process, error) {
	f, err := os.Open(pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find QEMU: %w", err)
	}
	defer f.Close()
	text := make([]byte, 32)
	n, _ := f.Read(text)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid <= 1 || !locked(f) {
		return nil, nil // it was never written in full, or its writer is dead
	}
	p, err := openProcess(pid)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Between reading the number and opening the pidfd the number may have gone to another process; the lock has not.
	if !locked(f) {
		p.close()
		return nil, nil
	}
	return p, nil
}

func openProcess(pid int) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("open QEMU's pidfd: %w", err)
	}
	return &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// locked tells whether someone else has locked the first byte, as QEMU does with its PID file.
func locked(f *os.File) bool {
	l := unix.Flock_t{Type: unix.F_WRLCK, Len: 1}
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}

// with holds the pidfd while f uses it: a number that was closed meanwhile could be another VM's.
func (p *process) with(f func(fd int) error) error {
	raw, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	return errors.Join(raw.Control(func(fd uintptr) { inner = f(int(fd)) }), inner)
}

// kill ends it without asking. A guest's writes that it was told are safe are with the gateway or the kernel by then.
func (p *process) kill() error {
	err := p.with(func(fd int) error { return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return nil // it has ended
	}
	return err
}

// gone waits until it has ended, for at most the given milliseconds.
func (p *process) gone(ms int) bool {
	ended := false
	err := p.with(func(fd int) error {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, ms)
		ended = n == 1
		return err
	})
	return err == nil && ended || errors.Is(err, os.ErrClosed)
}

func (p *process) close() { p.fd.Close() }

// starter starts processes. With tied they end when the starter does, which the kernel counts by the thread that started
// them: that thread is kept.
type starter struct {
	requests chan func()
	ended    chan struct{}
	tied     bool
}

func newStarter(tied bool) *starter {
	s := &starter{tied: tied}
	if !tied {
		return s
	}
	s.requests, s.ended = make(chan func()), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		for f := range s.requests {
			f()
		}
		close(s.ended)
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd, accel string) error {
	// A session of its own: a signal for the agent's terminal is none for guests.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if !s.tied {
		return startWith(accel, cmd)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error, 1)
	s.requests <- func() { done <- startWith(accel, cmd) }
	return <-done
}

// One at a time: whether a process gets huge pages it inherits from the agent.
var starting sync.Mutex

// startWith starts a QEMU, an emulated one without transparent huge pages. It asks for them for what it translates guests into,
// which grows most right after a switch; the kernel clears one in 5 ms where memory is itself virtual, and the guest stands
// still for that (measured: a fifth of the silence).
func startWith(accel string, cmd *exec.Cmd) error {
	starting.Lock()
	defer starting.Unlock()
	if accel == "tcg" && unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0) == nil { // a kernel that cannot has none, or it is slower
		defer func() { _ = unix.Prctl(unix.PR_SET_THP_DISABLE, 0, 0, 0, 0) }()
	}
	return cmd.Start()
}

// close lets tied processes end.
func (s *starter) close() {
	if s.tied {
		close(s.requests)
		<-s.ended
	}
}
