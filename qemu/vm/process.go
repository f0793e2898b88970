package vm

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child that cannot outlive this process.
type process struct {
	cmd  *exec.Cmd
	pid  int
	done chan struct{} // closed when it was waited for and its output is read to the end
	err  error         // valid after done

	mu     sync.Mutex
	reaped bool
}

// startProcess starts cmd in a process group of its own, so that a terminal's Ctrl-C reaches us and not it.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// Output that a stray descendant keeps open must not hold us up.
	cmd.WaitDelay = 2 * time.Second
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the *thread* that forked ends (prctl(2)), so that thread
		// belongs to this child until it is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		p.mu.Lock()
		p.reaped = true
		p.mu.Unlock()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// kill ends the process at once and waits for it.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// stop asks the process to end, insists after grace, and waits for it.
func (p *process) stop(grace time.Duration) {
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.kill()
	}
}

// signalKill ends the process without waiting, for callbacks that must not block.
func (p *process) signalKill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// cpuTime is the user and system time the process has used, also after its end.
func (p *process) cpuTime() (time.Duration, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		s := p.cmd.ProcessState
		return s.UserTime() + s.SystemTime(), nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// parseStat takes utime and stime out of /proc/PID/stat (proc(5)), in which the name may hold anything.
func parseStat(stat string) (time.Duration, error) {
	const tick = time.Second / 100 // USER_HZ, the same on every Linux that Go runs on
	_, rest, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("parse process state %q: too few fields", stat)
	}
	user, err := strconv.ParseUint(f[11], 10, 62)
	if err != nil {
		return 0, fmt.Errorf("parse process state: %w", err)
	}
	system, err := strconv.ParseUint(f[12], 10, 62)
	if err != nil {
		return 0, fmt.Errorf("parse process state: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}
