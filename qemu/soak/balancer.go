package soak

import "context"

// balancer lets hosts and balancers live through lost, late and reordered reports, and kills the balancer's process under
// real connections while its backends run full and recover.
func balancer(ctx context.Context, o Options) ([]tally, error) {
	return parts(ctx, o,
		part{"./plugins/dataplane/capacity/split", slicing{"history", "TestNeverMoreThanTheHostTakes", o.Interruptions, 2500, flags("histories")}},
		part{"./plugins/dataplane/balancer", slicing{"kill", "TestKilledAndRestarted", some(o.Interruptions, 20), 50, flags("kills")}},
	)
}
