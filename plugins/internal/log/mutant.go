package log

// mutant is a deliberate break of one invariant. Tests prove with it that they would notice;
// nothing outside this package's tests can set it.
type mutant uint8

const (
	mutantNone        mutant = iota
	mutantReuseEarly         // S1: space is reused before the checkpoint is durable
	mutantTruncate           // S3: a break is always taken for the end
	mutantForgiveSync        // S4: a failed sync counts as success
	mutantKeepEpoch          // S4: an opening keeps the epoch
)
