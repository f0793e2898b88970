// Package api serves the management API: Connect, gRPC and JSON from one set of handlers
// (apipb/api.proto), Prometheus metrics at /metrics and a liveness answer at /healthz.
//
// The server owns no listener and no feature. Its caller gives it listeners (its own, or
// systemd's) and a Backend, which is the appliance. What the server adds is who may do what:
//
//   - On a TCP listener every connection is TLS 1.3 with the box's own CA (package pki). The
//     caller's role is in its client certificate. Only Enrol and /healthz work without one.
//   - On a unix socket the kernel says who is calling. Root and the user core runs as are
//     admin; anybody else whom the socket's file mode lets in is viewer.
//
// A role is checked before a request's body is read; a procedure that roles.go does not name
// is refused. Every call that may change something leaves one line in the audit log, and so
// does every call that was refused.
//
// Everything is bounded: connections, header and message sizes, the time a call may take.
// Garbage closes its own connection and nothing else.
//
// A Server is safe for concurrent use. It lives from New to Shutdown and is not reused.
package api
