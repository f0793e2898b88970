package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// target is an NBD server under load, ours or a peer's, on a unix socket.
type target struct {
	name   string
	socket string
	export string
	pid    func(context.Context) (int, error) // of the process that serves now

	cmd *exec.Cmd // of a peer
}

func (t *target) uri() string {
	return "nbd+unix:///" + t.export + "?" + url.Values{"socket": {t.socket}}.Encode()
}

func (t *target) dial(ctx context.Context) (*nbdtest.Client, error) {
	return nbdtest.Dial(ctx, "unix", t.socket, t.export, nbdtest.Options{Timeout: fioLimit})
}

// flush makes everything written so far durable and returns how long that took.
func (t *target) flush(ctx context.Context) (time.Duration, error) {
	c, err := t.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Abandon()
	start := time.Now()
	if err := c.Flush(); err != nil {
		return 0, fmt.Errorf("flush %s: %w", t.name, err)
	}
	return time.Since(start), c.Close()
}

// load is one run of a job on a target: what fio saw, and what the server used for it.
type load struct {
	fioResult
	process, kernel time.Duration // CPU time
}

// perOp is the CPU time for one operation in µs: the process and, for a server that leaves work to them, the kernel's
// threads.
func (l load) perOp() float64 { return float64((l.process + l.kernel).Microseconds()) / l.ops }

// run puts a job on the target. A job that writes ends with a FLUSH inside the measured window, so that a server
// which leaves its writing to later pays for it here and not in the window of the next.
func (t *target) run(ctx context.Context, j fioJob) (load, error) {
	pid, err := t.pid(ctx)
	if err != nil {
		return load{}, err
	}
	before, err := markCPU(pid)
	if err != nil {
		return load{}, err
	}
	r, err := j.run(ctx, t.uri())
	if err != nil {
		return load{}, fmt.Errorf("%s: %w", t.name, err)
	}
	if j.writes() {
		took, err := t.flush(ctx)
		if err != nil {
			return load{}, err
		}
		r.wall += took
	}
	after, err := markCPU(pid)
	if err != nil {
		return load{}, err
	}
	l := load{fioResult: r}
	l.process, l.kernel = after.since(before)
	return l, nil
}

// cpuOf returns the CPU time that the server's process uses while do runs.
func (t *target) cpuOf(ctx context.Context, do func() error) (time.Duration, error) {
	pid, err := t.pid(ctx)
	if err != nil {
		return 0, err
	}
	before, err := markCPU(pid)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := markCPU(pid)
	if err != nil {
		return 0, err
	}
	process, _ := after.since(before)
	return process, nil
}

// alternate runs a job on every target, again and again; the order changes so that none always comes after the same.
func (s *session) alternate(ctx context.Context, name string, j fioJob, targets ...*target) (map[string][]load, error) {
	runs := make(map[string][]load)
	for round := range s.alternations() {
		for i := range targets {
			t := targets[(i+round)%len(targets)]
			l, err := t.run(ctx, j)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			s.note("%s %d %s: %.0f/s %.1f MB/s, CPU %.2f + %.2f µs, p99 %s, FLUSH p99 %s", name, round+1, t.name, l.iops, l.mbps,
				float64(l.process.Microseconds())/l.ops, float64(l.kernel.Microseconds())/l.ops, l.p99, l.syncP99)
			runs[t.name] = append(runs[t.name], l)
		}
	}
	return runs, nil
}

// alternations is how often the targets of a ratio take turns.
func (s *session) alternations() int {
	if s.Quick {
		return 2
	}
	return 9
}

// scaled makes a number of operations smaller for a quick run.
func (s *session) scaled(ops int) int {
	if s.Quick {
		return ops / 4
	}
	return ops
}

func medianOf(runs []load, of func(load) float64) float64 {
	var v []float64
	for _, l := range runs {
		v = append(v, of(l))
	}
	return Median(v)
}

// ratio is the median of the quotients of runs that were made side by side.
func ratio(a, b []load, of func(load) float64) float64 {
	var v []float64
	for i := range min(len(a), len(b)) {
		if d := of(b[i]); d > 0 {
			v = append(v, of(a[i])/d)
		}
	}
	return Median(v)
}

// peer starts a foreign NBD server and waits until it answers. It ends with ctx or by stop.
func (s *session) peer(ctx context.Context, name, dir string, command ...string) (*target, error) {
	t := &target{name: name, socket: filepath.Join(dir, name+".sock")}
	for i, a := range command {
		if a == "SOCKET" {
			command[i] = t.socket
		}
	}
	t.cmd = exec.CommandContext(ctx, command[0], command[1:]...)
	t.cmd.Cancel = func() error { return t.cmd.Process.Signal(syscall.SIGTERM) }
	t.cmd.WaitDelay = stopLimit
	// The peer must not outlive a bench that is killed.
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := t.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w (make bench installs it)", name, err)
	}
	t.pid = func(context.Context) (int, error) { return t.cmd.Process.Pid, nil }
	if err := t.await(ctx); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// await returns when the export can be had.
func (t *target) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	tick := time.NewTicker(stateEvery)
	defer tick.Stop()
	for {
		c, err := t.dial(ctx)
		if err == nil {
			return c.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", t.name, err)
		}
	}
}

// stop ends a peer.
func (t *target) stop() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	_ = t.cmd.Wait()
}

// prewritten makes a file whose blocks are all written: a server that writes to it in place measures the disk, and
// not how its file system turns allocated blocks into written ones.
func prewritten(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	zero := make([]byte, 4<<20)
	for done := int64(0); done < size; done += int64(len(zero)) {
		if _, err := f.WriteAt(zero[:min(int64(len(zero)), size-done)], done); err != nil {
			return fmt.Errorf("fill %s: %w", path, err)
		}
	}
	return errors.Join(f.Sync(), dropCache(f))
}
