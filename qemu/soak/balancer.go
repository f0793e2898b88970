package soak

import (
	"context"
	"errors"
	"fmt"
)

// balancer lets hosts and balancers live through lost, late and reordered reports, and kills the balancer's process under
// real connections while its backends run full and recover.
func balancer(ctx context.Context, o Options) (results []tally, err error) {
	if o.Interruptions <= 0 {
		return nil, nil
	}
	var errs []error
	for _, s := range []struct {
		pkg string
		slicing
	}{
		{"./plugins/dataplane/capacity/split", slicing{"history", "TestNeverMoreThanTheHostTakes", o.Interruptions, 2500, flags("histories")}},
		{"./plugins/dataplane/balancer", slicing{"kill", "TestKilledAndRestarted", max(o.Interruptions/20, 1), 50, flags("kills")}},
	} {
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
