package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/qemu/box"
)

const attemptConfig = `version: 1
hostname: soaked-%d
network: {management: {nic: "mac:52:54:00:72:61:01", dhcp: true}}
time: {ntp: []}
`

// readyLine is core's.
const readyLine = `ratchet: ready: `

// configLife interrupts n configuration attempts and the boots that close them. A direct boot is much cheaper.
func configLife(ctx context.Context, o Options, image string, n int, out *lines, t *tally) (err error) {
	r := rand.New(rand.NewPCG(o.Seed, 3))
	dir := filepath.Join(o.Dir, "config")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	b := box.Options{Image: image, Dir: dir, Config: fmt.Appendf(nil, attemptConfig, 0)}
	m, err := on(ctx, b)
	if err != nil {
		return err
	}
	if _, _, err := m.awaits(ctx, readyLine); err != nil {
		return err
	}
	if err := m.Login(ctx); err != nil {
		return err
	}
	m.fuse.measure()
	if _, err := change(ctx, m, dir, 1); err != nil {
		return err
	}
	counts := m.fuse.counts()
	out.print("  config, not interrupted: %d writes, %d flushes, %d lasting TPM commands", counts[write], counts[flush], counts[chip])
	now := 1
	for i := range n {
		t.tried++
		begin, next := time.Now(), i+2
		k, at := point(r, counts)
		m.fuse.arm(k, at)
		blown, err := change(ctx, m, dir, next)
		if err != nil {
			return lost(ctx, out, t, m, dir, fmt.Errorf("configuration %d: %w", next, err))
		}
		where := fmt.Sprintf("before %s %d of %d", k, at+1, counts[k])
		if !blown {
			where, now = "after the end", next
		}
		loss, err := m.cut(r.Uint64())
		if err != nil {
			return err
		}
		if m, err = on(ctx, b); err != nil {
			return err
		}
		runs, err := comesUp(ctx, m, now, next)
		if err != nil {
			return lost(ctx, out, t, m, dir, fmt.Errorf("configuration %d to %d cut %s: %w", now, next, where, err))
		}
		out.print("  config %d, cut %s: %d sectors unflushed, %d dropped, %d reordered; has %s, %.0f s",
			i+1, where, loss.Unflushed, loss.Dropped, loss.Reordered, map[bool]string{true: "the new one", false: "the one before"}[runs == next], time.Since(begin).Seconds())
		now = runs
	}
	return m.end()
}

// change applies a configuration and restarts the box, which closes the attempt.
func change(ctx context.Context, m *machine, dir string, n int) (blown bool, err error) {
	path := filepath.Join(dir, "next.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, attemptConfig, n), 0o600); err != nil {
		return false, err
	}
	for _, args := range [][]string{{"config", "apply", path}, {"power", "reboot"}} {
		if _, blown, err := m.ctl(ctx, args...); blown || err != nil {
			return blown, err
		}
	}
	_, blown, err = m.awaits(ctx, readyLine)
	return blown, err
}

// comesUp waits for the box and says which of two configurations it has.
func comesUp(ctx context.Context, m *machine, either, or int) (int, error) {
	if _, _, err := m.awaits(ctx, readyLine); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	text, err := m.Ctl(ctx, "config", "show")
	if err != nil {
		return 0, err
	}
	for _, n := range []int{either, or} {
		if strings.Contains(string(text), fmt.Sprintf("hostname: soaked-%d\n", n)) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("it has the configuration\n%s", text)
}
