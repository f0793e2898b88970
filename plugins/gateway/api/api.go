// Package api holds the requests and replies of the gateway's own management calls (core's Invoke), as JSON.
package api

import "time"

// Methods of the gateway.
const (
	MethodList    = "volumes.list"    // request empty, reply ListReply
	MethodShow    = "volumes.show"    // request VolumeRequest, reply Volume
	MethodStats   = "volumes.stats"   // request VolumeRequest, reply Stats
	MethodAttach  = "volumes.attach"  // request VolumeRequest, reply Attach
	MethodFlush   = "volumes.flush"   // request FlushRequest, reply Volume: returns when everything written before is uploaded
	MethodEvict   = "volumes.evict"   // request EvictRequest, reply EvictReply
	MethodShrink  = "volumes.shrink"  // request ShrinkRequest, reply Volume: what is behind the new size is lost
	MethodScrub   = "volumes.scrub"   // request ScrubRequest, reply Volume as it was when the pass was asked for: it begins in the background
	MethodRelease = "volumes.release" // request ReleaseRequest, reply ReleaseReply: gives the disk space of a volume back
)

// VolumeRequest names a volume.
type VolumeRequest struct {
	Name string `json:"name"`
}

// FlushRequest asks for the upload of everything written so far.
type FlushRequest struct {
	Name string `json:"name"`
	// TimeoutMS bounds the wait; 0 means as long as the call may last.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
}

// EvictRequest asks to forget local copies of what the store holds.
type EvictRequest struct {
	Name string `json:"name"`
	// Bytes is how much at most; 0 means all of it.
	Bytes uint64 `json:"bytes,omitempty"`
}

// ShrinkRequest makes a volume smaller; growing is a matter of the configuration alone.
type ShrinkRequest struct {
	Name string `json:"name"`
	Size uint64 `json:"size"` // in bytes, a multiple of 4096
}

// ScrubRequest asks for a pass over the local part of a volume.
type ScrubRequest struct {
	Name string `json:"name"`
	// Rate is in bytes a second; 0 means as configured.
	Rate uint64 `json:"rate,omitempty"`
}

// Scrub is what reading the local part through has found since the gateway's start. A pass is over when Passes has
// grown.
type Scrub struct {
	Running  bool      `json:"running"` // under way, or asked for and waiting for its turn
	Done     uint64    `json:"done"`    // bytes that the one under way has read
	Passes   uint64    `json:"passes"`
	Last     time.Time `json:"last,omitzero"` // end of the last one, also before the start
	Bytes    uint64    `json:"bytes"`         // read in it
	Repaired uint64    `json:"repaired"`      // blocks that were damaged and came from the store again
	Lost     uint64    `json:"lost"`          // blocks that were damaged and not in the store yet
}

// EvictReply says how much that was.
type EvictReply struct {
	Bytes  uint64 `json:"bytes"`
	Volume Volume `json:"volume"`
}

// ReleaseRequest gives the disk space of a volume back.
type ReleaseRequest struct {
	Name string `json:"name"`
	// Configured allows it for a volume that still is; it does not come up again before it is configured anew, or the
	// gateway starts again.
	Configured bool `json:"configured,omitempty"`
	// Force gives up what is not uploaded and cuts clients off. Without it a volume that is configured is closed to
	// clients first, and given back when all of it is in the store; one that is not configured has nobody to upload it.
	Force bool `json:"force,omitempty"`
}

// ReleaseReply says what was given back.
type ReleaseReply struct {
	Disk  string `json:"disk,omitempty"`
	Bytes uint64 `json:"bytes"`
}

// ListReply is in the order of the configuration.
type ListReply struct {
	Volumes []Volume `json:"volumes"`
}

// Volume is one configured volume. Sizes are in bytes.
type Volume struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Message string `json:"message,omitempty"` // why it is not attached, and what to do
	Disk    string `json:"disk"`
	Size    uint64 `json:"size"`

	DirtyBytes     uint64 `json:"dirty_bytes"` // in the local log, not yet in the store
	OldestDirtyMS  int64  `json:"oldest_dirty_ms"`
	CachedBytes    uint64 `json:"cached_bytes"`
	CacheSize      uint64 `json:"cache_size"`
	LogBytes       uint64 `json:"log_bytes"`
	LogSize        uint64 `json:"log_size"`
	DurableSeq     uint64 `json:"durable_seq"`  // last group that is durable locally
	UploadedSeq    uint64 `json:"uploaded_seq"` // last group that the store's head covers
	Epoch          uint64 `json:"epoch"`
	Hits           uint64 `json:"hits"`
	Misses         uint64 `json:"misses"`
	CorruptBlocks  uint64 `json:"corrupt_blocks"` // damaged on the disk, and fetched again
	LostReads      uint64 `json:"lost_reads"`     // times that a block was found damaged which is not in the store
	Scrub          Scrub  `json:"scrub,omitzero"`
	UploadedBytes  uint64 `json:"uploaded_bytes"`
	UploadBatches  uint64 `json:"upload_batches"`
	Remote         string `json:"remote"`                     // "ok" or "down"
	RemoteDownMS   int64  `json:"remote_down_ms,omitempty"`   // for how long
	RemoteProblem  string `json:"remote_problem,omitempty"`   // the latest failure
	Connections    int64  `json:"connections"`                // NBD clients
	Encrypted      bool   `json:"encrypted"`                  // what goes to the store is; it serves with no other key than it was made with
	Writer         string `json:"writer,omitempty"`           // who alone may write, after a handover
	WarnAt         int    `json:"warn_at"`                    // percentage of local space taken by dirty data at which it warns
	Held           bool   `json:"held,omitempty"`             // uploads are held back by configuration
	OpenDurationUS int64  `json:"open_duration_us,omitempty"` // disk to serving, at the last start
}

// Stats are what clients asked of a volume since the gateway's start, by command.
type Stats struct {
	Name     string    `json:"name"`
	InFlight int64     `json:"in_flight"`
	Commands []Command `json:"commands"`
}

// Command counts the requests of one kind. Latencies are upper bounds, from a request that has been read to a reply
// that is ready.
type Command struct {
	Name   string `json:"name"` // read, write, flush, trim, write_zeroes, cache, block_status
	Ops    uint64 `json:"ops"`
	Bytes  uint64 `json:"bytes"`
	Errors uint64 `json:"errors"`
	MeanUS uint64 `json:"mean_us"`
	P50US  uint64 `json:"p50_us"`
	P99US  uint64 `json:"p99_us"`
	P999US uint64 `json:"p999_us"`
}

// Attach is how clients reach a volume.
type Attach struct {
	Export    string     `json:"export"`
	Size      uint64     `json:"size"`
	Listeners []Listener `json:"listeners"`
	Targets   []Target   `json:"targets,omitempty"`
	Token     bool       `json:"token,omitempty"` // NBD clients need one in the export's name
}

// Target is the volume as the kernel exports it.
type Target struct {
	Protocol string   `json:"protocol"` // iscsi or nvme
	Name     string   `json:"name"`     // IQN or NQN
	Portals  []string `json:"portals"`  // host:port, with an unspecified host for all addresses
	Identity string   `json:"identity"` // by which initiators know the disk
	CHAP     bool     `json:"chap,omitempty"`
	// Clients are the initiators or hosts that may connect; none means any.
	Clients []string `json:"clients,omitempty"`
}

// Listener is one socket of the NBD server.
type Listener struct {
	Network string `json:"network"` // tcp or unix
	Address string `json:"address"` // host:port, with an empty host for all addresses, or a path
	TLS     bool   `json:"tls"`
	// ClientCertificate says that clients must show one.
	ClientCertificate bool   `json:"client_certificate"`
	Ack               string `json:"ack"` // when a write is answered: ring or log
}
