package memory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	reclaimFile = "sys/fs/cgroup/memory.reclaim"
	vmstatFile  = "proc/vmstat"
)

const (
	// pace is the time between two steps: a page in use is used in it.
	pace = 500 * time.Millisecond
	// What is in use, but seldom, comes back in so many paces after the last step.
	comeBack = 20
	// tidy is the time between two looks for holes in the swap area, holes is how many pages that came back are worth
	// the work of closing them: 256 KiB.
	tidy  = 15 * time.Second
	holes = 64
)

// Options of Settle.
type Options struct {
	Root string                    // where proc, sys and dev are; "" for the running system
	Load func(module string) error // loads a kernel module; needed
	Log  *slog.Logger              // nil for none
}

// settler is one run of Settle.
type settler struct {
	root   string
	cpus   int
	load   func(string) error
	swapon func(path string) error
	tick   <-chan time.Time
	log    *slog.Logger
}

// Settle tunes the kernel's memory management, makes a swap area in compressed memory where memory is short, and
// moves there what only the start needed. It returns when that is done, or when ctx ends. An error says what was left
// out; the machine runs on without it.
func Settle(ctx context.Context, o Options) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	s := &settler{root: o.Root, cpus: runtime.NumCPU(), load: o.Load, swapon: swapon, tick: tick.C, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s.settle(ctx)
}

func (s *settler) settle(ctx context.Context) error {
	tuned := s.tune()
	before, err := Read(s.root)
	if err != nil {
		return errors.Join(tuned, err)
	}
	size := areaSize(before.Total, os.Getpagesize())
	if size == 0 {
		return tuned
	}
	tuned = errors.Join(tuned, s.tuneScarce())
	if err := s.compress(size); err != nil {
		return errors.Join(tuned, err)
	}
	steps, err := s.reclaim(ctx)
	// What lives in this process's own heap comes back now, and not when somebody waits for an answer.
	runtime.GC()
	for range comeBack {
		s.wait(ctx)
	}
	err = errors.Join(tuned, err, s.compact())
	after, _ := Read(s.root)
	s.log.Info("memory settled", "steps", steps, "available", after.Available, "before", before.Available, "compressed", after.Compressed)
	return err
}

// reclaim takes step after step while they bring something.
func (s *settler) reclaim(ctx context.Context) (steps int, err error) {
	var r reclaimer
	for {
		now, err := s.sample()
		if err != nil {
			return steps, err
		}
		if !r.next(now) {
			return steps, nil
		}
		// EAGAIN: there was less than asked for. The next look says whether it was worth it.
		if err := s.write(reclaimFile, strconv.Itoa(step)); err != nil && !errors.Is(err, unix.EAGAIN) {
			return steps, err
		}
		steps++
		if !s.wait(ctx) {
			return steps, nil // the box is being turned off
		}
	}
}

// wait waits for the next tick and says whether it came before the end.
func (s *settler) wait(ctx context.Context) bool {
	select {
	case <-s.tick:
		return true
	case <-ctx.Done():
		return false
	}
}

// compact closes the holes that pages left in the swap area when they came back.
func (s *settler) compact() error { return s.write(compactFile, "1") }

// Keep closes the holes in the swap area that Settle has made, until ctx ends: pages of the binary come back for
// whatever the box is asked to do. Without an area it returns at once.
func Keep(ctx context.Context, root string) error {
	tick := time.NewTicker(tidy)
	defer tick.Stop()
	return (&settler{root: root, tick: tick.C}).keep(ctx)
}

func (s *settler) keep(ctx context.Context) error {
	if _, err := os.Stat(s.path(compactFile)); err != nil {
		return nil //nolint:nilerr // there is no area
	}
	closed := uint64(0)
	for s.wait(ctx) {
		var err error
		if closed, err = s.closeHoles(closed); err != nil {
			return err
		}
	}
	return nil
}

// closeHoles does so when enough pages have come back since it did so last. It takes and returns how many had then.
func (s *settler) closeHoles(then uint64) (uint64, error) {
	now, err := s.sample()
	if err != nil || now.swappedIn-then < holes {
		return then, err
	}
	return now.swappedIn, s.compact()
}

func (s *settler) sample() (sample, error) {
	stat, err := os.ReadFile(s.path(statFile))
	if err != nil {
		return sample{}, fmt.Errorf("read memory: %w", err)
	}
	vmstat, err := os.ReadFile(s.path(vmstatFile))
	if err != nil {
		return sample{}, fmt.Errorf("read memory: %w", err)
	}
	return sample{saved: saved(string(stat)), swappedIn: swappedIn(string(vmstat))}, nil
}

func (s *settler) path(file string) string { return filepath.Join("/", s.root, file) }

// write sets one of the kernel's files, which must be there.
func (s *settler) write(file, value string) error {
	f, err := os.OpenFile(s.path(file), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("tune memory: %w", err)
	}
	_, err = f.WriteString(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("tune memory: write %s to %s: %w", value, file, err)
	}
	return nil
}
