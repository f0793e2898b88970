package soak

import (
	"context"
	"errors"
	"fmt"
)

// interfaceGroup lets control planes and clients live through lost messages, crashes and takeovers, and holds flows against
// their members while those change and the process that programs them is replaced.
func interfaceGroup(ctx context.Context, o Options) (results []tally, err error) {
	if o.Interruptions <= 0 {
		return nil, nil
	}
	suite, err := compile(ctx, o, "./plugins/dataplane/group")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, s := range []slicing{
		{"history", "TestHistories", o.Interruptions, 2500, flags("histories")},
		{"flow", "TestFlows", max(o.Interruptions/10, 1), 250, flags("changes")}, // each with 400 flows
	} {
		t, err := suite.sliced(ctx, o, s)
		if ctx.Err() != nil {
			return results, err
		}
		errs = append(errs, err)
		results = append(results, t)
		fmt.Fprintln(o.Out, t)
	}
	return results, errors.Join(errs...)
}
