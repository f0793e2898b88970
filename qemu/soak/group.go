package soak

import "context"

// interfaceGroup lets control planes and clients live through lost messages, crashes and takeovers, and holds flows against
// their members while those change and the process that programs them is replaced; then the same for the boxes and hosts
// that attach VNIs, which must never be at two instances.
func interfaceGroup(ctx context.Context, o Options) ([]tally, error) {
	return parts(ctx, o,
		part{"./plugins/dataplane/group", slicing{"history", "TestHistories", o.Interruptions, 2500, flags("histories")}},
		part{"./plugins/dataplane/group", slicing{"flow", "TestFlows", some(o.Interruptions, 10), 250, flags("changes")}}, // each with 400 flows
		part{"./plugins/dataplane/vni/failover", slicing{"attachment", "TestHistories", some(o.Interruptions, 2), 1000, flags("histories")}},
	)
}
