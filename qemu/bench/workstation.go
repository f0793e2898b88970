package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/client"
	"github.com/ratchetos/ratchet/qemu/box"
)

const (
	volume  = "bench"
	gateway = "gateway"

	startLimit = time.Minute
	stateLimit = 20 * time.Second // until a restarted plugin is as the measurement wants it
	stateEvery = 20 * time.Millisecond
	stopLimit  = 30 * time.Second
)

// workstationConfig is a cached volume on a file, uploaded to a folder.
const workstationConfig = `version: 1
hostname: bench
tpm: none
api: {listen: none}
time: {ntp: []}
plugins:
  gateway:
    volumes:
      - {name: %s, size: 256MiB, disk: "file:%s", store: {driver: dir, path: %q}}
    nbd: {listen: ["tcp:%s"]}
`

// workstation is `ratchet core` on this machine.
type workstation struct {
	binary  string
	dir     string // what survives a restart: configuration, state, disk
	address string // of the API
	nbd     string // host:port
	client  *client.Client
	note    func(format string, args ...any)

	cmd  *exec.Cmd
	run  string // directory of the sockets
	log  tail
	done chan struct{} // of this start; closed when core has ended
}

// workstation starts core with one small volume and waits until the gateway serves.
func (s *session) workstation(ctx context.Context) (*workstation, error) {
	dir, err := s.folder("core")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address, disk := fmt.Sprintf("127.0.0.1:%d", port), filepath.Join(dir, "disk.img")
	if err := box.Sparse(disk, dataDisk); err != nil {
		return nil, err
	}
	w, err := s.appliance(ctx, dir, fmt.Sprintf(workstationConfig, volume, disk, filepath.Join(dir, "store"), address))
	if err != nil {
		return nil, err
	}
	w.nbd = address
	return w, nil
}

// compile makes the appliance once a run and returns its path.
func (s *session) compile(ctx context.Context) (string, error) {
	if s.binary != "" {
		return s.binary, nil
	}
	s.note("compile the appliance")
	path := filepath.Join(s.Dir, "ratchet")
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", err
	}
	if err := s.source.Compile(ctx, path); err != nil {
		return "", err
	}
	s.binary = path
	return path, nil
}

// appliance starts core with a configuration; all that it keeps is in dir.
func (s *session) appliance(ctx context.Context, dir, config string) (w *workstation, err error) {
	w = &workstation{dir: dir, note: s.note}
	if w.binary, err = s.compile(ctx); err != nil {
		return nil, err
	}
	if err := os.WriteFile(w.config(), []byte(config), 0o644); err != nil {
		return nil, err
	}
	// A socket's path must be short, and plugins, which run as users of their own, must be able to get there.
	if w.run, err = os.MkdirTemp("", "ratchet-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(w.run, 0o755); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.run))
	}
	if err := w.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.run))
	}
	return w, nil
}

func (w *workstation) config() string { return filepath.Join(w.dir, "appliance.yaml") }

// start runs core and returns when the gateway is ready. It may be called again after the process has ended.
func (w *workstation) start(ctx context.Context) error {
	w.cmd = exec.CommandContext(ctx, w.binary, "core", "--config", w.config(), "--state", filepath.Join(w.dir, "state"), "--run", w.run)
	w.cmd.Cancel = func() error { return w.cmd.Process.Signal(syscall.SIGTERM) }
	w.cmd.WaitDelay = stopLimit
	stderr, err := w.cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := w.cmd.Start(); err != nil {
		return fmt.Errorf("start core: %w", err)
	}
	ready := make(chan struct{})
	w.done = make(chan struct{})
	go w.follow(stderr, ready)
	w.address = "unix:" + filepath.Join(w.run, "api.sock")
	if w.client, err = client.New(client.Options{Address: w.address}); err != nil {
		w.stop()
		return err
	}
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	select {
	case <-ready:
	case <-w.done:
		return fmt.Errorf("core ended at its start:\n%s", w.log.String())
	case <-limit.C:
		w.stop()
		return fmt.Errorf("core is not ready after %s:\n%s", startLimit, w.log.String())
	}
	if _, err := w.wait(ctx, func(p *apipb.Plugin) bool { return p.GetPid() != 0 }); err != nil {
		w.stop()
		return err
	}
	return nil
}

// follow reads core's messages to their end and then collects the process.
func (w *workstation) follow(stderr io.Reader, ready chan<- struct{}) {
	defer close(w.done)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		w.log.add(lines.Text())
		if ready != nil && strings.HasPrefix(lines.Text(), "ratchet: ready:") {
			close(ready)
			ready = nil
		}
	}
	_, _ = io.Copy(io.Discard, stderr) // after a line too long to scan
	_ = w.cmd.Wait()
}

// stop ends core as systemd would and removes its sockets.
func (w *workstation) stop() {
	_ = w.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-w.done:
	case <-limit.C:
		_ = w.cmd.Process.Kill()
		<-w.done
	}
	if w.client != nil {
		w.client.Close()
	}
	_ = os.RemoveAll(w.run)
}

// gateway asks core for the state of the plugin.
func (w *workstation) gateway(ctx context.Context) (*apipb.Plugin, error) {
	list, err := w.client.Plugins.List(ctx, &apipb.ListPluginsRequest{})
	if err != nil {
		return nil, fmt.Errorf("list plugins: %w\n%s", err, w.log.String())
	}
	for _, p := range list.GetPlugins() {
		if p.GetName() == gateway {
			return p, nil
		}
	}
	return nil, errors.New("core has no gateway")
}

// wait until the gateway serves and is as wanted. The API has no event for a spare that stands by.
func (w *workstation) wait(ctx context.Context, want func(*apipb.Plugin) bool) (*apipb.Plugin, error) {
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	tick := time.NewTicker(stateEvery)
	defer tick.Stop()
	for {
		p, err := w.gateway(ctx)
		if err != nil {
			return nil, err
		}
		if p.GetState() == "ready" && want(p) {
			return p, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the gateway is %s (process %d, spare %t) after %s: %s\n%s", p.GetState(), p.GetPid(), p.GetSpare(), stateLimit, p.GetMessage(), w.log.String())
		}
	}
}

// restart asks core for a new process and returns its pid, with a spare standing by or before there is one.
func (w *workstation) restart(ctx context.Context, spare bool) (pid int, err error) {
	old, err := w.gateway(ctx)
	if err != nil {
		return 0, err
	}
	if _, err := w.client.Plugins.Restart(ctx, &apipb.RestartRequest{Plugin: gateway}); err != nil {
		return 0, fmt.Errorf("restart the gateway: %w", err)
	}
	p, err := w.wait(ctx, func(p *apipb.Plugin) bool {
		return p.GetPid() != 0 && p.GetPid() != old.GetPid() && (!spare || p.GetSpare())
	})
	if err != nil {
		return 0, err
	}
	if p.GetSpare() != spare {
		return 0, errors.New("a spare stood by too early for a measurement without one")
	}
	return int(p.GetPid()), nil
}

// broken says whether a connection ended before its answer.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// tail keeps the last lines of a log, for errors.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 20

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines[max(0, len(t.lines)-tailLines+1):], line)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// ctl runs one command of ratchetctl.
func (w *workstation) ctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, w.binary, append([]string{"ctl", "--address", w.address}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ratchetctl %s: %w: %s\n%s", strings.Join(args, " "), err, tailText(out), w.log.String())
	}
	return nil
}
