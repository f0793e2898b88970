package soak

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ratchetos/ratchet/image/builder"
)

const (
	// processes side by side: the reference TPM is one in a process.
	processes = 2
	// apart are the seeds of two processes.
	apart = 1_000_000
	// engineLimit ends a process that hangs.
	engineLimit = 2 * time.Hour
)

// secureCounter interrupts updates and attempts.
func secureCounter(ctx context.Context, o Options) (results []tally, err error) {
	if o.Interruptions > 0 {
		r, err := engines(ctx, o)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
		fmt.Fprintln(o.Out, r)
	}
	if o.Machines > 0 {
		r, err := machines(ctx, o)
		if err != nil {
			return nil, err
		}
		results = append(results, r...)
	}
	return results, nil
}

// engines runs the simulator's tests for as many interruptions as are wanted.
func engines(ctx context.Context, o Options) (tally, error) {
	total := tally{system: o.System, what: "engine"}
	s, err := compile(ctx, o, "./boot/interrupt")
	if err != nil {
		return total, err
	}
	var parts [processes]tally
	var g errgroup.Group
	for i := range parts {
		g.Go(func() (err error) {
			n := o.Interruptions / processes
			if i == 0 {
				n += o.Interruptions % processes
			}
			parts[i], err = s.run(ctx, o, "engine", i, engineLimit, "TestSoak",
				"-interruptions", strconv.Itoa(n), "-seed", strconv.FormatUint(o.Seed+uint64(i)*apart, 10))
			return err
		})
	}
	err = g.Wait()
	for _, p := range parts {
		total.tried, total.lost = total.tried+p.tried, total.lost+p.lost
	}
	return total, err
}

// machines interrupts two machines, side by side.
func machines(ctx context.Context, o Options) ([]tally, error) {
	out := &lines{to: o.Out}
	image := filepath.Join(o.Dir, "image")
	if _, err := (builder.Options{Flavour: "full", Out: image, Version: "soak.0"}).Build(ctx); err != nil {
		return nil, err
	}
	updates := (o.Machines + 2) / 3 // each takes as long as two of the others
	r := []tally{{system: o.System, what: "update"}, {system: o.System, what: "config"}}
	var g errgroup.Group
	g.Go(func() error { return updateLife(ctx, o, image, updates, out, &r[0]) })
	g.Go(func() error { return configLife(ctx, o, image, o.Machines-updates, out, &r[1]) })
	err := g.Wait()
	for _, t := range r {
		out.print("%s", t)
	}
	return r, err
}
