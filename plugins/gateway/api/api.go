// Package api holds the requests and replies of the gateway's own management calls (core's Invoke), as JSON.
package api

// Methods of the gateway.
const (
	MethodList  = "volumes.list"  // request empty, reply ListReply
	MethodShow  = "volumes.show"  // request VolumeRequest, reply Volume
	MethodFlush = "volumes.flush" // request FlushRequest, reply Volume: returns when everything written before is uploaded
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
	CorruptBlocks  uint64 `json:"corrupt_blocks"`
	UploadedBytes  uint64 `json:"uploaded_bytes"`
	UploadBatches  uint64 `json:"upload_batches"`
	Remote         string `json:"remote"`                     // "ok" or "down"
	RemoteDownMS   int64  `json:"remote_down_ms,omitempty"`   // for how long
	RemoteProblem  string `json:"remote_problem,omitempty"`   // the latest failure
	Connections    int64  `json:"connections"`                // NBD clients
	OpenDurationUS int64  `json:"open_duration_us,omitempty"` // disk to serving, at the last start
}
