package log

// mutant is a deliberate break of one invariant. Tests prove with it that they would notice;
// nothing outside this package's tests can set it.
type mutant uint8

const (
	mutantNone            mutant = iota
	mutantReuseEarly             // S1: space is reused before the tail is durable
	mutantTruncate               // S3: a break is always taken for the end
	mutantForgiveSync            // S4: a failed sync counts as success
	mutantKeepEpoch              // S4: an opening keeps the epoch
	mutantNoSync                 // S4: fdatasync removed
	mutantKeepRing               // S5: the ring is not drained
	mutantCheckpointEarly        // S1: the checkpoint is valid before what it refers to is durable
	mutantTrustTorn              // S3: payloads beyond the durable mark are not checked
	mutantMarkOverGroup          // S6: a mark that waited for room takes the place of the group that was opened meanwhile
)
