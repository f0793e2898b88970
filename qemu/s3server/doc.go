// Package s3server runs a real S3 server for tests: versitygw on a directory, as a process of its own.
//
// Start builds the server once from the nested module qemu/s3 and keeps the binary in the user's cache folder,
// under a name made of the module's content and the Go version; the first build takes one to two minutes on
// two cores, every later Start well under a second. Several test binaries may call Start at once: one builds,
// the others wait for it.
//
// A Server lives until Stop is called or the context given to Start ends. It also ends when this process dies,
// whatever the reason, because the server watches its standard input. To play an outage, Stop a server and Start
// another on the same Dir and Address: the objects are still there.
//
// The server never calls fsync. It stands for a provider that is reachable, slow, down or racing, not for one
// that loses power.
package s3server
