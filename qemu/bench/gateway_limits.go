package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// What the gateway may use, in bytes: a base, the ring, something for what it holds and something for what it could.
const (
	baseMemory   = 24 * mib
	ringMemory   = 32 * mib // the default
	perHeldKiB   = 2.2
	perChunk     = 64 // of 4 MiB of the volume
	sizeOfChunk  = 4 * mib
	memoryMetric = "1.0 = 24 MiB + ring + 2.2 B/KiB held + 64 B/4 MiB of volume"
)

// gatewayMemory looks at the memory of the gateway with much held locally, and with a volume that is very large: at rest,
// which is held to the limit, and at its peak while it takes writes and uploads them, which is batches and the collector's
// slack besides.
func (s *session) gatewayMemory(ctx context.Context) error {
	var failed []error
	for _, c := range []struct {
		name       string
		size, held int64
	}{{"held", 4 * gib, 2 * gib}, {"16tib", 16 << 40, 256 * mib}} {
		failed = append(failed, func() error {
			dir, err := s.folder("gateway-memory-" + c.name)
			if err != nil {
				return err
			}
			w, t, err := s.gateway(ctx, dir, gatewayConfig{size: c.size, disk: 3 * gib, store: dirStore(dir), maxAge: "1s"})
			if err != nil {
				return fmt.Errorf("memory of %s: %w", c.name, err)
			}
			defer w.stop()
			pid, err := t.pid(ctx)
			if err != nil {
				return err
			}
			// All over the volume, where an index is at its largest for what it holds.
			job := fioJob{rw: "randwrite", block: "64k", depth: 16, ops: int(c.held / cell), size: c.size, extra: []string{"--refill_buffers"}}
			peak, err := peakMemory(pid, func() error {
				if _, err := t.run(ctx, job); err != nil {
					return err
				}
				return w.uploaded(ctx)
			})
			if err != nil {
				return err
			}
			select {
			case <-time.After(restTime):
			case <-ctx.Done():
				return ctx.Err()
			}
			used, err := memoryOf(pid)
			if err != nil {
				return err
			}
			allowed := baseMemory + ringMemory + perHeldKiB*float64(c.held/1024) + perChunk*float64(c.size/sizeOfChunk)
			s.figures.Record("gateway.memory_"+c.name, Figure{Value: float64(used) / mib, Unit: "MiB", N: 1})
			s.figures.Record("gateway.memory_"+c.name+"_peak", Figure{Value: float64(peak) / mib, Unit: "MiB", N: 1})
			s.figures.Record("gateway.memory_"+c.name+"_peak_ratio", Figure{Value: float64(peak) / allowed, Unit: "x", Peer: memoryMetric, N: 1})
			s.figures.Record("gateway.memory_"+c.name+"_ratio", Figure{Value: float64(used) / allowed, Unit: "x", Goal: "<= 1.0", Peer: memoryMetric, N: 1})
			return nil
		}())
	}
	return errors.Join(failed...)
}

// restTime is how long after the last upload the memory at rest is looked at, and peakEvery how often while it lasts.
const (
	restTime  = time.Second
	peakEvery = 100 * time.Millisecond
)

// peakMemory is the most memory that a process was seen to have while do ran.
func peakMemory(pid int, do func() error) (peak int64, err error) {
	done := make(chan error, 1)
	go func() { done <- do() }()
	tick := time.NewTicker(peakEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			now, err := memoryOf(pid)
			if err != nil {
				return 0, errors.Join(err, <-done)
			}
			peak = max(peak, now)
		case err := <-done:
			return peak, err
		}
	}
}

// memoryOf is the proportional set size of a process in bytes: pages that it shares, as those of the binary and of
// the ring, count by the share.
func memoryOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parsePSS(b)
}

func parsePSS(b []byte) (int64, error) {
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "Pss:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib * 1024, err
		}
	}
	return 0, errors.New("memory map of the process has no Pss line")
}

// gatewayCut measures how long nobody is served after a cut with a log full of what is not uploaded.
func (s *session) gatewayCut(ctx context.Context) error {
	const size = 8 * gib
	dirty := int64(4 * gib)
	if s.Quick {
		dirty = gib
	}
	dir, err := s.folder("gateway-cut")
	if err != nil {
		return err
	}
	w, t, err := s.gateway(ctx, dir, gatewayConfig{size: size, disk: 6 * gib, store: dirStore(dir), hold: true})
	if err != nil {
		return err
	}
	defer func() { w.stop() }()
	s.note("write %d MiB in blocks of 4 KiB", dirty/mib)
	if _, err := t.run(ctx, fioJob{rw: "randwrite", block: "4k", depth: 32, ops: int(dirty / 4096), size: size, extra: []string{"--refill_buffers"}}); err != nil {
		return err
	}
	const cuts = 3
	var took []float64
	for range cuts {
		mark := make([]byte, 4096)
		for i := range mark {
			mark[i] = byte(rand.Uint32())
		}
		c, err := t.dial(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(c.Write(0, mark, false), c.Flush()); err != nil {
			return err
		}
		c.Abandon()
		if err := w.cut(); err != nil {
			return err
		}
		f, err := os.Open(filepath.Join(dir, "disk.img"))
		if err != nil {
			return err
		}
		err = errors.Join(dropCache(f), f.Close())
		if err != nil {
			return err
		}
		start := time.Now()
		if err := w.start(ctx); err != nil {
			return err
		}
		if err := t.await(ctx); err != nil {
			return err
		}
		c, err = t.dial(ctx)
		if err != nil {
			return err
		}
		got, err := c.Read(0, uint32(len(mark)))
		if err == nil && !bytes.Equal(got, mark) {
			err = errors.New("the volume lost a write that was flushed before the cut")
		}
		took = append(took, time.Since(start).Seconds())
		if err = errors.Join(err, c.Close()); err != nil {
			return err
		}
		s.note("served %.2f s after the cut", took[len(took)-1])
	}
	s.figures.Record("gateway.serve_after_cut", Figure{Value: Median(took), Unit: "s", Goal: "<= 2", N: cuts})
	return nil
}

// cut ends core and all that it has started at once, with everything they had in memory.
func (w *workstation) cut() error {
	all, err := descendants(w.cmd.Process.Pid)
	if err != nil {
		return err
	}
	// Core first, or it would start the others again.
	for _, pid := range append([]int{w.cmd.Process.Pid}, all...) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	<-w.done
	w.client.Close()
	return nil
}

// descendants are the processes below one.
func descendants(pid int) ([]int, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	var list []int
	for _, task := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(f)
			if err != nil {
				return nil, err
			}
			below, err := descendants(child)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			list = append(append(list, child), below...)
		}
	}
	return list, nil
}
