package wire

import "google.golang.org/grpc/status"

// Plain is the error of a call between core and a plugin as people read it: what the other side said, without the
// "rpc error: code = … desc =" that gRPC puts in front. The code is still found by status.Code.
func Plain(err error) error { return plain{err} }

type plain struct{ err error }

func (p plain) Error() string { return status.Convert(p.err).Message() }
func (p plain) Unwrap() error { return p.err }

// GivesWay is what a plugin says, as Unavailable, of a call that a change of its configuration interrupts. A connection
// that breaks is Unavailable, too, and then the process has ended.
const GivesWay = "interrupted, because the configuration of the plugin changes: try again"
