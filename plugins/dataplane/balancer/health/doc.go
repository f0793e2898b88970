// Package health asks backends for which no agent speaks whether they serve.
//
// A Monitor runs one check per target – a backend's own address, not the VIP – at its interval, at most 32 at the same
// time, and tells when a target comes up or goes down. The first answer decides at once; afterwards rise answers in a
// row bring a target up and fall failures in a row take it down (streak.go, the pure part). TCP checks open a
// connection; HTTP checks follow no redirect; gRPC checks are those of the gRPC health checking protocol
// (github.com/grpc/grpc doc/health-checking.md) over HTTP/2 without TLS.
//
// A Monitor is safe for concurrent use. It costs one goroutine per target while it has any.
package health
