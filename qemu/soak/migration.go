package soak

import (
	"context"
	"errors"
	"fmt"
)

// migration lets moves live through faults at every call of a host, an agent or the journal, in memory; then moves real
// guests between real QEMUs, and kills either side, cuts and stalls the stream, and crashes the manager meanwhile.
func migration(ctx context.Context, o Options) (results []tally, err error) {
	var errs []error
	for _, s := range []struct {
		pkg string
		slicing
	}{
		{"./plugins/migration/run", slicing{"history", "TestHistories", o.Interruptions, 5000, flags("histories")}},
		{"./qemu/trial", slicing{"move", "TestMoves", o.Machines, 30, flags("moves")}},
	} {
		if s.n <= 0 {
			continue
		}
		suite, err := compile(ctx, o, s.pkg)
		if err != nil {
			return results, err
		}
		t, err := suite.sliced(ctx, o, s.slicing)
		if ctx.Err() != nil {
			return results, err
		}
		errs = append(errs, err)
		results = append(results, t)
		fmt.Fprintln(o.Out, t)
	}
	return results, errors.Join(errs...)
}
