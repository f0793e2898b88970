package nbd

import "context"

// Backend is a volume as the server sees it: a range of Size bytes.
//
// The server checks every request before it calls: ranges lie inside the volume, are not
// empty, and lengths of ReadAt and WriteAt do not exceed the maximum block size. All methods
// may be called from many goroutines at once, also for overlapping ranges, and may block:
// the server calls them outside the connection's reader, so one that waits never delays
// the others. Only the Flush of a client that sends nothing before it has its reply is called there. ctx ends when the
// connection is gone or the server stops hard; a method should then return soon. What it did not finish was never
// acknowledged, and must not be written any more: the client may have come again and written something newer there.
//
// An error that wraps one of this package's sentinels reaches the client as that errno;
// any other error is EIO.
type Backend interface {
	// Size is in bytes. It may change while the backend is exported: the protocol cannot tell connected clients, who
	// go on with the size they were told, but requests are held against the size of now. Cheap, and never waits.
	Size() uint64
	// BlockSize returns the sizes in bytes that requests must be a multiple of, should be a
	// multiple of, and may have at most. Powers of two; with a minimum above 512 only clients
	// that ask for it are let in.
	// The server clips the maximum to MaxRequest.
	BlockSize() (minimum, preferred, maximum uint32)
	// ReadAt fills p from off.
	ReadAt(ctx context.Context, p []byte, off uint64) error
	// WriteAt returns when the write is acknowledged: a later read on any connection sees
	// it, and a later Flush on any connection makes it durable. With fua it is durable on return.
	// The backend must not keep p.
	WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error
	// Trim tells that the range is no longer needed. Afterwards it may read as anything
	// stable; ours read as zeroes.
	Trim(ctx context.Context, off, n uint64, fua bool) error
	// WriteZeroes makes the range read as zeroes.
	WriteZeroes(ctx context.Context, off, n uint64, flags ZeroFlags) error
	// Flush returns when every write acknowledged before the call, on any connection, is durable.
	Flush(ctx context.Context) error
	// BlockStatus describes the range from its start, in order and without gaps. It may stop
	// early, but not before the first extent. With one set the first extent is all the
	// client wants. It may answer {Len: n} at any time.
	BlockStatus(ctx context.Context, off, n uint64, one bool) ([]Extent, error)
}

// FastReader is implemented by backends that can serve some reads without waiting.
type FastReader interface {
	// TryReadAt fills p and returns true, or returns false at once. It runs on the
	// connection's reader: no lock that is held over I/O, no network, no sleep. What it
	// wrote into p before returning false does not matter.
	TryReadAt(p []byte, off uint64) bool
}

// FastWriter is implemented by backends that can acknowledge some writes without waiting.
type FastWriter interface {
	// TryWriteAt is WriteAt without fua under the rules of TryReadAt. After false nothing
	// has been written.
	TryWriteAt(p []byte, off uint64) bool
}

// LoneWriter is implemented by fast writers that know when a client is about to flush.
type LoneWriter interface {
	// TryWriteAlone is TryWriteAt for a client that sends no request before it has the reply to the last. With due set
	// it has flushed so regularly that its next request should be a FLUSH.
	TryWriteAlone(p []byte, off uint64) (done, due bool)
	// FlushAhead begins that FLUSH. The server calls it when the reply to the write has left, on the connection's reader;
	// it may wait for the disk, not for anything slower.
	FlushAhead()
}

// Cacher is implemented by backends that can fetch a range ahead of its use (NBD_CMD_CACHE).
type Cacher interface {
	// Cache returns when the range is local or fetching it has failed; it is a hint.
	Cache(ctx context.Context, off, n uint64) error
}

// StateReporter is implemented by backends that know where their data is. Their exports offer the context
// ratchet:state beside base:allocation.
type StateReporter interface {
	// StateOf describes the range as BlockStatus does, under the same rules.
	StateOf(ctx context.Context, off, n uint64, one bool) ([]StateExtent, error)
}

// StateExtent is a run of Len bytes in one state of the context ratchet:state.
type StateExtent struct {
	Len   uint64
	State State
}

// State says where data is. The bits are those of the protocol; none of them set means that nothing is known. Data may
// be local and remote at once.
type State uint32

const (
	// StateLocal data can be read without asking the object store.
	StateLocal State = 1 << iota
	// StateDirty data is durable here at the latest after the next FLUSH and not in the object store yet.
	StateDirty
	// StateRemote data is in the object store.
	StateRemote
	// StateZero data reads as zeroes and needs neither.
	StateZero
)

// ZeroFlags refine WriteZeroes.
type ZeroFlags uint8

const (
	// ZeroFUA asks for durability on return.
	ZeroFUA ZeroFlags = 1 << iota
	// ZeroNoHole asks that the range stays provisioned: later writes there do not fail with ErrNoSpace.
	ZeroNoHole
	// ZeroFast asks for ErrNotSupported, at once, if zeroing is not faster than writing zeroes.
	ZeroFast
)

// Extent is a run of Len bytes in one state of the context base:allocation.
type Extent struct {
	Len  uint64
	Hole bool // not allocated: a later write may need space
	Zero bool // reads as zeroes
}
