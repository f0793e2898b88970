// Package attach decides who may attach to a volume, and which of those who are attached may write.
//
// # Purpose
//
// Clients of NBD have no names. Here they get one by a token in the export name, volume@token; a token belongs to an
// identity ("host-7") and says whether that may write. Of the identities that may, one does at a time once the volume
// has been handed over: `volume handover VOL FROM TO`, the fence of a live migration (invariants S15, M1).
//
// # States of a volume's writer
//
//	open      nobody has been chosen, or everyone has again: every identity with the right writes
//	serving   one identity writes, under an epoch that the volume keeps on its disk
//	stopping  a handover is under way: nobody new is admitted, writes in flight are waited for, then flushed
//	in doubt  the new epoch may have been kept or not: nobody writes until the handover is repeated or turned round
//
// # Guarantees
//
// When a handover has returned, every write that FROM was told had succeeded is durable, and no write of FROM succeeds any more;
// none of TO has succeeded before. Repeating a handover that has happened changes nothing. A crash leaves the
// volume with the writer of the last epoch on its disk. Opening a volume to everyone again is an epoch, too; it stops nobody.
// The secret of a token is kept only as its SHA-256 and compared in constant time. A volume that ever had a token
// stays closed to clients without one, also when the last token has been revoked.
//
// # Concurrency
//
// Machine and Registry are plain values, stepped by their caller. Gate and Keeper may be used from many goroutines.
// Admission is two atomic additions on a counter of the connection's own and one load: a handover publishes first that FROM is
// out and looks at the counters then, a write counts itself first and looks at who is in then, so one of the two sees
// the other.
//
// # Lifetime
//
// A Keeper lives as long as the gateway's process; Serve and Leave bring volumes in and out. Counts of writes by epoch
// begin anew with each process; the epoch itself is on the volume's disk.
package attach
