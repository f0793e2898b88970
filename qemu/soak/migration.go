package soak

import "context"

// migration lets moves live through faults at every call of a host, an agent or the journal, in memory; then moves real
// guests between real QEMUs, and kills either side, cuts and stalls the stream, and crashes the manager meanwhile.
func migration(ctx context.Context, o Options) ([]tally, error) {
	return parts(ctx, o,
		part{"./plugins/migration/run", slicing{"history", "TestHistories", o.Interruptions, 5000, flags("histories")}},
		part{"./qemu/trial", slicing{"move", "TestMoves", o.Machines, 30, flags("moves")}},
	)
}
