package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/go-plugin/runner"

	"github.com/ratchetos/ratchet/core/plugin/wire"
	"github.com/ratchetos/ratchet/core/sandbox"
)

// runnerConfig is how to start one process.
type runnerConfig struct {
	path   string // of the executable
	name   string // argv[0], which picks the applet
	uid    int
	launch sandbox.Launch
	netns  *os.File // nil: core's
	cgroup *sandbox.Cgroup
	files  []*os.File // to inherit, from descriptor 3 on
	env    []string
	onLog  func(pid int, r io.ReadCloser)
}

// processRunner starts a plugin for go-plugin. It differs from go-plugin's own in what
// matters here: the log pipe outlives core, the process starts in its namespace, cgroup and
// user, and its end is known from waiting for it, whoever else still holds its pipes.
type processRunner struct {
	cfg    runnerConfig
	cmd    *exec.Cmd
	stdout *os.File

	mu     sync.Mutex
	pid    int  // 0 before the start
	killed bool // before the start

	exited chan struct{} // closed when the process has been waited for
	err    error         // how it ended; valid once exited is closed
}

var _ runner.Runner = (*processRunner)(nil)

// newProcessRunner takes over the command that go-plugin made. socketDir is where the plugin
// will listen.
func newProcessRunner(cfg runnerConfig, spec *exec.Cmd, socketDir string) (*processRunner, error) {
	if cfg.uid != 0 {
		if err := os.Chown(socketDir, cfg.uid, cfg.uid); err != nil {
			return nil, fmt.Errorf("give socket directory to uid %d: %w", cfg.uid, err)
		}
	}
	// go-plugin wants to hand its stdin and environment down; a plugin gets neither, but for debugging.
	cmd := &exec.Cmd{
		Path: cfg.path, Args: []string{cfg.name}, Dir: "/",
		Env:        slices.Concat(spec.Env, cfg.env, debugging()),
		ExtraFiles: cfg.files,
		// A group of its own: ^C on a workstation's terminal is for core, which stops its
		// plugins in order.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err := cfg.launch.Apply(cmd.SysProcAttr); err != nil {
		return nil, err
	}
	return &processRunner{cfg: cfg, cmd: cmd, exited: make(chan struct{})}, nil
}

// debugging is what somebody who debugs core has told Go's runtime, and means for the plugins too.
func debugging() (env []string) {
	for _, name := range []string{"GOTRACEBACK", "GORACE"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// Start starts the process.
func (r *processRunner) Start(context.Context) error {
	outR, outW, err := wire.LogPipe()
	if err != nil {
		return err
	}
	defer outW.Close()
	logR, logW, err := wire.LogPipe()
	if err != nil {
		outR.Close()
		return err
	}
	defer logW.Close()
	r.cmd.Stdout, r.cmd.Stderr = outW, logW
	if r.cfg.cgroup != nil {
		dir, err := r.cfg.cgroup.Open()
		if err != nil {
			return errors.Join(err, outR.Close(), logR.Close())
		}
		defer dir.Close()
		r.cmd.SysProcAttr.UseCgroupFD, r.cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
	}
	if err := r.exec(); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", r.cfg.name, err), outR.Close(), logR.Close())
	}
	r.stdout = outR
	go r.cfg.onLog(r.pid, logR)
	go func() {
		r.err = r.cmd.Wait()
		close(r.exited)
		// A fork of the plugin may hold the other end for ever; go-plugin would wait for it.
		outR.Close()
	}()
	return nil
}

// exec starts the command unless Kill came first.
func (r *processRunner) exec() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		return errors.New("stopped before it was started")
	}
	if err := inNetNS(r.cfg.netns, r.cmd.Start); err != nil {
		return err
	}
	r.pid = r.cmd.Process.Pid
	return nil
}

// Wait waits for the end of the process.
func (r *processRunner) Wait(ctx context.Context) error {
	select {
	case <-r.exited:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the process, and with a cgroup everything it has forked.
func (r *processRunner) Kill(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed = true
	if r.pid == 0 {
		return nil
	}
	if r.cfg.cgroup != nil && r.cfg.cgroup.Kill() == nil {
		return nil
	}
	// os.Process works on a pidfd: it cannot hit a stranger that got the number.
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", r.cfg.name, err)
	}
	return nil
}

// Stdout is where go-plugin reads the handshake line.
func (r *processRunner) Stdout() io.ReadCloser { return handshakePipe{r.stdout} }

// handshakePipe ends quietly when it is closed under its reader.
type handshakePipe struct{ *os.File }

func (p handshakePipe) Read(b []byte) (int, error) {
	n, err := p.File.Read(b)
	if errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Stderr is empty: the log goes to the ring, not through go-plugin.
func (r *processRunner) Stderr() io.ReadCloser { return io.NopCloser(strings.NewReader("")) }

// Name is the plugin's.
func (r *processRunner) Name() string { return r.cfg.name }

// ID is the pid, "" before the start.
func (r *processRunner) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid == 0 {
		return ""
	}
	return strconv.Itoa(r.pid)
}

// Diagnose has nothing to add to the log ring.
func (r *processRunner) Diagnose(context.Context) string {
	return "see ratchetctl plugin logs " + r.cfg.name
}

// PluginToHost translates nothing: both sides see one file system.
func (r *processRunner) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin translates nothing.
func (r *processRunner) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
