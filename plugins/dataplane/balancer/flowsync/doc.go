// Package flowsync is what two balancers tell each other so that either can go on with the other's connections.
//
// Live: each flow that becomes established, or ends, is a record with its full tuple, so that the receiver files it under
// its own key; records travel in batches, as sealed datagrams of the control channel. A batch is sent again until it is
// acknowledged; a Sender keeps a bounded window of them and, when the peer does not keep up or is gone, drops what it
// has and asks for a full pass instead of remembering more (window.go, pure).
//
// Full: what the tables hold has no tuples any more, only places and fingerprints under a key. Two balancers with the
// same key exchange entries as they are, in pages, each with the names of the backends it uses, since their numbers
// differ from box to box. A balancer whose table is empty adopts the key of its peer; two that both had connections
// before they met exchange live records only, until one of them starts empty.
//
// A full pass repeats while the peers are joined: it also carries how long flows have been idle, which records do not.
//
// wire.go holds the encodings. Nothing here does I/O.
package flowsync
