package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/image/builder"
)

// Options of a soak. The zero value is the whole of it.
type Options struct {
	// System is the one to soak; there is only secure-counter, the default.
	System string
	// Interruptions of the engines; 10,000 if zero, none if negative.
	Interruptions int
	// Machines is the number of interruptions in QEMU, a third of them of updates; 24 if zero, none if negative.
	Machines int
	// Seed of the first life; 1 if zero.
	Seed uint64
	// Dir keeps machines and logs; build/soak if empty.
	Dir string
	Out io.Writer
}

// ErrLost means that at least one box did not come back.
var ErrLost = errors.New("not every interrupted box came back")

const system = "secure-counter"

// tally is a line of the result.
type tally struct {
	what        string
	tried, lost int
}

func (t tally) String() string {
	return fmt.Sprintf("soak %s.%s %d tried, %d lost", system, t.what, t.tried, t.lost)
}

// Run runs it in the source tree and prints a line a kind of interruption.
func Run(ctx context.Context, o Options) error {
	if o.System == "" {
		o.System = system
	}
	if o.System != system {
		return fmt.Errorf("soak %q: there is only %s", o.System, system)
	}
	pick := func(n *int, fallback int) {
		if *n == 0 {
			*n = fallback
		}
	}
	pick(&o.Interruptions, 10_000)
	pick(&o.Machines, 24)
	if o.Seed == 0 {
		o.Seed = 1
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
	var results []tally
	if o.Interruptions > 0 {
		r, err := engines(ctx, o)
		if err != nil {
			return err
		}
		results = append(results, r)
		fmt.Fprintln(o.Out, r)
	}
	if o.Machines > 0 {
		r, err := machines(ctx, o)
		if err != nil {
			return err
		}
		results = append(results, r...)
	}
	for _, r := range results {
		if r.lost > 0 {
			return ErrLost
		}
	}
	return nil
}

// machines interrupts two machines, side by side.
func machines(ctx context.Context, o Options) ([]tally, error) {
	out := &lines{to: o.Out}
	image := filepath.Join(o.Dir, "image")
	if _, err := (builder.Options{Flavour: "full", Out: image, Version: "soak.0"}).Build(ctx); err != nil {
		return nil, err
	}
	updates := (o.Machines + 2) / 3 // each takes as long as two of the others
	r := []tally{{what: "update"}, {what: "config"}}
	var g errgroup.Group
	g.Go(func() error { return updateLife(ctx, o, image, updates, out, &r[0]) })
	g.Go(func() error { return configLife(ctx, o, image, o.Machines-updates, out, &r[1]) })
	err := g.Wait()
	for _, t := range r {
		out.print("%s", t)
	}
	return r, err
}
