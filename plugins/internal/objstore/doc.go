// Package objstore is the small object-store interface under volumes, snapshots and the page
// store: get a range, put if absent, put if match, list, delete.
//
// # Drivers
//
// Package dir keeps objects as files of a directory, fsynced; it is the embedded default.
// Package s3 talks to any service that speaks S3 and honours If-None-Match and If-Match; s3/s3test behaves, in tests, as
// providers do where they differ.
// Package driver opens either from one configuration. Package objstoretest holds the
// conformance suite all of them run, and a store in memory for tests of callers.
//
// # Faults
//
// Package faults injects errors, timeouts after success, latency and outages.
//
// # Guarantees
//
// A put is durable when it returns. Conditional puts are linearisable per key; nothing
// else is promised about order between keys. Sizes are bounded: no driver ever reads more
// than MaxObject for one call. Drivers do not retry; the caller owns the retry policy,
// because only it knows what an unknown outcome means.
//
// # Concurrency
//
// Stores may be used from many goroutines, and one place (directory, bucket and prefix) by
// many processes at once.
package objstore
