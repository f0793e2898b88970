package soak

import (
	"context"
	"strconv"
)

// leases lets agents, consumers and a producer live through lost messages, partitions and restarts with the quota
// watched, and ends processes of all sides under open connections.
func leases(ctx context.Context, o Options) ([]tally, error) {
	kills := func(n int, _ uint64) []string { return []string{"-kills", strconv.Itoa(n)} } // in namespaces, with 20 connections
	return parts(ctx, o,
		part{"./plugins/dataplane/lease/engine", slicing{"history", "TestHistories", o.Interruptions, 2500, flags("histories")}},
		part{"./plugins/dataplane/lease", slicing{"killed", "TestKilled", some(o.Interruptions, 50), 50, kills}},
	)
}
