// Package wire holds what core and a plugin process must agree on beside the protobuf
// contract: the descriptors a plugin inherits, the handshake, the credentials, and the
// messages of the control socket.
//
// # Inherited descriptors
//
//	0  /dev/null
//	1  the go-plugin handshake line, nothing else
//	2  log lines (JSON), a pipe that never fails and never blocks its writer; see Stderr
//	3  ControlFD: one SOCK_SEQPACKET socket to core
//	4  BootstrapFD: a sealed memfd with a Bootstrap, read once and closed
//
// # Control socket
//
// gRPC cannot carry file descriptors, so they travel on the control socket, one message
// and one descriptor at a time, each with the name it is for. Core sends them before the
// call that mentions them. The end of the control socket is the end of core: the plugin
// stops then, unless Bootstrap.Outlive says that a new core will come back for it.
//
// The Host service has no listener anywhere. Core sends one end of a stream socketpair
// as a KindHost message and serves gRPC on the other; a core that comes back after a
// re-exec sends another one and the plugin moves over to it. Nothing can connect to it,
// so it needs no TLS, and nothing has to be found again.
package wire
