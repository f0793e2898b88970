package soak

import (
	"context"
	"errors"
	"fmt"
)

// interfaceGroup lets control planes and clients live through lost messages, crashes and takeovers, and holds flows against
// their members while those change and the process that programs them is replaced; then the same for the boxes and hosts
// that attach VNIs, which must never be at two instances.
func interfaceGroup(ctx context.Context, o Options) (results []tally, err error) {
	if o.Interruptions <= 0 {
		return nil, nil
	}
	var errs []error
	for _, s := range []struct {
		pkg string
		slicing
	}{
		{"./plugins/dataplane/group", slicing{"history", "TestHistories", o.Interruptions, 2500, flags("histories")}},
		{"./plugins/dataplane/group", slicing{"flow", "TestFlows", max(o.Interruptions/10, 1), 250, flags("changes")}}, // each with 400 flows
		{"./plugins/dataplane/vni/failover", slicing{"attachment", "TestHistories", max(o.Interruptions/2, 1), 1000, flags("histories")}},
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
