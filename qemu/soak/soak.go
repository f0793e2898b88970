package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options of a soak. The zero value is the whole of it.
type Options struct {
	// System is the one to soak, secure-counter if empty.
	System string
	// Interruptions of the engines; 10,000 if zero, none if negative.
	Interruptions int
	// Machines is the number of interruptions in QEMU, the system's own number if zero, none if negative.
	Machines int
	// Seed of the first life; 1 if zero.
	Seed uint64
	// Budget is when nothing more is begun, from the start on; without bound if zero. What was begun ends by itself.
	Budget time.Duration
	// Dir keeps machines and logs; build/soak if empty.
	Dir string
	Out io.Writer

	end time.Time // of the budget
}

// over reports whether the budget is used up.
func (o *Options) over() bool { return !o.end.IsZero() && time.Now().After(o.end) }

// ErrLost means that at least one interruption lost something.
var ErrLost = errors.New("not everything came back after every interruption")

// systems and how each is soaked. A run prints its lines as it goes.
var systems = map[string]struct {
	machines int
	run      func(context.Context, Options) ([]tally, error)
}{
	"secure-counter":  {24, secureCounter},
	"balancer":        {0, balancer},
	"cached-volume":   {30, cachedVolume},
	"interface-group": {0, interfaceGroup},
	"lease":           {0, leases},
	"migration":       {210, migration},
}

// Systems that can be soaked, by name.
func Systems() []string { return slices.Sorted(maps.Keys(systems)) }

// tally is a line of the result.
type tally struct {
	system, what string
	tried, lost  int
}

func (t tally) String() string {
	return fmt.Sprintf("soak %s.%s %d tried, %d lost", t.system, t.what, t.tried, t.lost)
}

// Run runs it in the source tree and prints a line a kind of interruption.
func Run(ctx context.Context, o Options) error {
	if o.System == "" {
		o.System = "secure-counter"
	}
	s, ok := systems[o.System]
	if !ok {
		return fmt.Errorf("soak %q: use one of %s", o.System, strings.Join(Systems(), ", "))
	}
	pick := func(n *int, fallback int) {
		if *n == 0 {
			*n = fallback
		}
	}
	pick(&o.Interruptions, 10_000)
	pick(&o.Machines, s.machines)
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Budget > 0 {
		o.end = time.Now().Add(o.Budget)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join("build", "soak")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return err
	}
	o.Dir = dir
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	results, err := s.run(ctx, o)
	for _, r := range results {
		if r.lost > 0 {
			return errors.Join(ErrLost, err)
		}
	}
	return err
}
