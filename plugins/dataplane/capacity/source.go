package capacity

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/plugins/dataplane/capacity/split"
)

// source measures one thing about a component.
type source interface {
	// measure says how many more connections there is room for. It is called from one goroutine.
	measure(now time.Duration) (split.Measurement, error)
	close() error
}

// least is the smallest limit of some sources; the one that counts what it accepts lends its count.
func least(now time.Duration, sources []source, most uint32) (split.Measurement, error) {
	m := split.Measurement{Limit: math.MaxUint32}
	if most > 0 {
		m.Limit = most
	}
	var failed []error
	for _, s := range sources {
		one, err := s.measure(now)
		if err != nil {
			failed = append(failed, err)
			one.Limit = 0
		}
		m.Limit = min(m.Limit, one.Limit)
		if one.Counted {
			m.Accepted, m.Counted = one.Accepted, true
		}
	}
	return m, errors.Join(failed...)
}

// cgroup is the room in a control group (the kernel's admin-guide/cgroup-v2.rst).
type cgroup struct {
	c CGroupConfig
}

var _ source = cgroup{}

func (g cgroup) close() error { return nil }

func (g cgroup) measure(time.Duration) (split.Measurement, error) {
	room := uint64(math.MaxUint32)
	for _, part := range []struct {
		current string
		limits  []string
		cost    uint64
	}{
		{"memory.current", []string{"memory.max", "memory.high"}, uint64(g.c.Memory)},
		{"pids.current", []string{"pids.max"}, uint64(g.c.Tasks)},
	} {
		if part.cost == 0 {
			continue
		}
		limit := uint64(math.MaxUint64)
		for _, file := range part.limits {
			l, err := g.read(file)
			if err != nil {
				return split.Measurement{}, err
			}
			limit = min(limit, l)
		}
		if limit == math.MaxUint64 {
			continue // "max": no limit of this kind
		}
		current, err := g.read(part.current)
		if err != nil {
			return split.Measurement{}, err
		}
		if part.current == "memory.current" {
			cache, err := g.reclaimable()
			if err != nil {
				return split.Measurement{}, err
			}
			current -= min(current, cache)
		}
		room = min(room, (limit-min(limit, current))/part.cost)
	}
	return split.Measurement{Limit: uint32(room)}, nil
}

// reclaimable is the file cache that nobody has used lately: memory.current counts it, and the kernel takes it back before
// it refuses memory. A group that reads files would be full for ever without it. Kubernetes' working set leaves it out, too.
func (g cgroup) reclaimable() (uint64, error) {
	const file, key = "memory.stat", "inactive_file "
	b, err := os.ReadFile(filepath.Join(g.c.Path, file))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("measure cgroup: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("measure cgroup: %s/%s holds %q", g.c.Path, file, strings.TrimSpace(line))
			}
			return n, nil
		}
	}
	return 0, nil
}

// read takes a number; "max" is the largest.
func (g cgroup) read(file string) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(g.c.Path, file))
	if err != nil {
		return 0, fmt.Errorf("measure cgroup: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if s == "max" {
		return math.MaxUint64, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("measure cgroup: %s/%s holds %q", g.c.Path, file, s)
	}
	return n, nil
}
