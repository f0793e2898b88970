package soak

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// leases lets agents, consumers and a producer live through lost messages, partitions and restarts with the quota
// watched, and ends processes of all sides under open connections.
func leases(ctx context.Context, o Options) (results []tally, err error) {
	if o.Interruptions <= 0 {
		return nil, nil
	}
	var errs []error
	for _, part := range []struct {
		pkg string
		slicing
	}{
		{"./plugins/dataplane/lease/engine", slicing{"history", "TestHistories", o.Interruptions, 2500, flags("histories")}},
		{"./plugins/dataplane/lease", slicing{"killed", "TestKilled", max(o.Interruptions/50, 1), 50, func(n int, _ uint64) []string {
			return []string{"-kills", strconv.Itoa(n)} // in namespaces, with 20 connections
		}}},
	} {
		suite, err := compile(ctx, o, part.pkg)
		if err != nil {
			return results, err
		}
		t, err := suite.sliced(ctx, o, part.slicing)
		if ctx.Err() != nil {
			return results, err
		}
		errs = append(errs, err)
		results = append(results, t)
		fmt.Fprintln(o.Out, t)
	}
	return results, errors.Join(errs...)
}
