package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

const (
	restartRuns = 15
	sameRuns    = 10
	statusRuns  = 21

	answerLimit = 10 * time.Second // from the kill to the first answer
	chunk       = 64 << 10
	pattern     = 0x52 // of the data that a new client reads

	goalRestart = "<= 20"
	// Not measured here: only the delays that those wait before they start the process (docs/howto/run-benches.md).
	restartPeer = "a fixed delay before the restart: 1000 ms gokrazy, 5000 ms Talos"
)

// core measures the plugin host on this machine, as a workstation runs it.
func (s *session) core(ctx context.Context) error {
	w, err := s.workstation(ctx)
	if err != nil {
		return err
	}
	defer w.stop()
	if err := w.fill(ctx); err != nil {
		return err
	}
	for _, c := range []struct {
		name  string
		spare bool
	}{{"plugin_restart", true}, {"plugin_restart_cold", false}} {
		s.note("kill the gateway %d times, spare standing by: %t", restartRuns, c.spare)
		var ms []float64
		for range restartRuns {
			took, err := w.kill(ctx, c.spare)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			ms = append(ms, float64(took.Microseconds())/1000)
		}
		s.figures.Record("core."+c.name, Figure{Value: Median(ms), Unit: "ms", Goal: goalRestart, Peer: restartPeer, N: restartRuns})
	}
	s.note("kill the gateway %d times between a client's write and its FLUSH", sameRuns)
	kept, err := w.sameClient(ctx)
	if err != nil {
		return err
	}
	s.figures.Record("core.s5_same_client", Figure{Value: float64(kept), Unit: fmt.Sprintf("of %d", sameRuns), Goal: fmt.Sprintf(">= %d", sameRuns), N: sameRuns})

	s.note("run ratchetctl status %d times", statusRuns)
	var ms []float64
	for range statusRuns {
		start := time.Now()
		if out, err := exec.CommandContext(ctx, w.binary, "ctl", "--address", w.address, "status").CombinedOutput(); err != nil {
			return fmt.Errorf("ratchetctl status: %w: %s", err, bytes.TrimSpace(out))
		}
		ms = append(ms, float64(time.Since(start).Microseconds())/1000)
	}
	s.figures.Record("core.cli_status", Figure{Value: Median(ms), Unit: "ms", N: statusRuns})
	return nil
}

// fill writes what new clients read. The gateway formats its blank disk first, in the background; only this once is
// the export not there yet when the plugin is ready.
func (w *workstation) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stateLimit)
	defer cancel()
	tick := time.NewTicker(stateEvery)
	defer tick.Stop()
	var c *nbdtest.Client
	for {
		var err error
		if c, err = nbdtest.Dial(ctx, "tcp", w.nbd, volume, nbdtest.Options{}); err == nil {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the export: %w", err)
		}
	}
	defer c.Close()
	if err := c.Write(0, bytes.Repeat([]byte{pattern}, chunk), false); err != nil {
		return fmt.Errorf("write to the volume: %w", err)
	}
	return c.Flush()
}

// kill ends the serving process with SIGKILL and returns the time until a new client had its handshake and data.
func (w *workstation) kill(ctx context.Context, spare bool) (time.Duration, error) {
	// The operator's restart forgives the kill before, which would count as a failure in a row.
	pid, err := w.restart(ctx, spare)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill process %d of the gateway: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	for {
		err := w.read(ctx)
		if err == nil {
			break
		}
		// A connection that the dying process had taken from the queue is reset; a client dials again.
		if !broken(err) || ctx.Err() != nil {
			return 0, fmt.Errorf("read after the kill: %w", err)
		}
	}
	took := time.Since(start)
	p, err := w.gateway(ctx)
	if err == nil && int(p.GetPid()) == pid {
		err = fmt.Errorf("process %d answered and should be dead", pid)
	}
	return took, err
}

// read is what a new client does: connect, handshake, one read.
func (w *workstation) read(ctx context.Context) error {
	c, err := nbdtest.Dial(ctx, "tcp", w.nbd, volume, nbdtest.Options{Timeout: answerLimit})
	if err != nil {
		return err
	}
	defer c.Abandon()
	got, err := c.Read(0, chunk)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, bytes.Repeat([]byte{pattern}, chunk)) {
		return errors.New("the volume returned other data than was written")
	}
	return nil
}

// sameClient counts how often a client that wrote before the kill gets a successful FLUSH and its data after it
// (invariant S5). It is one client for all tries: QEMU's, which reconnects and sends again what had no reply.
func (w *workstation) sameClient(ctx context.Context) (kept int, err error) {
	q, err := startQemuIO(ctx, w.nbd, volume)
	if err != nil {
		return 0, err
	}
	defer q.stop()
	for try := range sameRuns {
		pid, err := w.restart(ctx, false)
		if err != nil {
			return kept, err
		}
		// A new place and a new pattern, so that what an earlier try left there cannot pass for this one.
		at, fill := (try+1)*chunk, 0x80+try
		if out, err := q.do("write -P %d %d %d", fill, at, chunk); err != nil || !done(out, "wrote", chunk) {
			return kept, fmt.Errorf("write before the kill: %s: %w", out, errors.Join(err, ctx.Err()))
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return kept, fmt.Errorf("kill process %d of the gateway: %w", pid, err)
		}
		flushed, err := q.do("flush")
		if err != nil {
			return kept, err
		}
		back, err := q.do("read -P %d %d %d", fill, at, chunk)
		if err != nil {
			return kept, err
		}
		if flushed == "" && done(back, "read", chunk) {
			kept++
		} else {
			w.note("try %d: flush: %q, read: %q", try+1, flushed, back)
		}
	}
	return kept, nil
}
