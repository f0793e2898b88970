package objstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Limits that every driver enforces, so that code tested on one works on all.
const (
	// MaxObject is the largest object in bytes. Larger data is cut by the caller.
	MaxObject = 64 << 20
	// MaxKey is the longest key in bytes.
	MaxKey = 512
)

// Store keeps immutable objects, and a few small mutable ones under compare-and-swap.
//
// Keys are slash-separated paths of [A-Za-z0-9._=-] elements; see CheckKey. No key may continue
// another with a slash ("a" and "a/b"): stores on file systems cannot keep both. Every method may
// be called from many goroutines, honours ctx, and is idempotent: after an error of unknown
// outcome (ErrUnavailable, the end of ctx) the same call may be repeated. A repeated
// conditional put can find its own earlier success; the caller re-reads and compares.
//
// A call ends with ErrUnavailable when nothing of it has moved for half a minute or, of a large put, a few. As long as bytes
// move it goes on, however long it takes: many calls may share a thin line, and only ctx knows how long they may. See
// WithProgress.
//
// Errors wrap exactly one of the sentinels below, or none when retrying will not help
// (bad key).
type Store interface {
	// Get returns up to n bytes from off; with n < 0 all of them. The result is shorter
	// than n when the object ends sooner and empty when off is at or past its end.
	// ErrNotFound, ErrUnavailable.
	Get(ctx context.Context, key string, off, n int64) ([]byte, error)
	// Load returns a whole object together with the etag of exactly these bytes.
	// ErrNotFound, ErrUnavailable.
	Load(ctx context.Context, key string) (data []byte, etag string, err error)
	// Head describes an object. ErrNotFound, ErrUnavailable.
	Head(ctx context.Context, key string) (Info, error)
	// PutIfAbsent creates an object and returns its etag. It is durable on return. Of
	// concurrent calls exactly one succeeds. ErrExists, ErrUnavailable.
	PutIfAbsent(ctx context.Context, key string, data []byte) (etag string, err error)
	// PutIfMatch replaces the object whose etag is still the given one and returns the new
	// etag. It is durable on return. Of concurrent calls with one etag exactly one succeeds.
	// ErrPrecondition (also when there is no object), ErrUnavailable.
	PutIfMatch(ctx context.Context, key string, data []byte, etag string) (newETag string, err error)
	// List calls fn for every object whose key starts with prefix and sorts after the key
	// after ("" for all), in byte order. An error of fn ends the list and is returned as
	// it is. Objects put or deleted meanwhile may be missing or present. ErrUnavailable.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error
	// Delete removes an object; one that does not exist is no error. ErrUnavailable.
	Delete(ctx context.Context, key string) error
	// Probe checks by doing it that the store is reachable and that its conditional puts
	// work; it writes and removes a few small objects under "probe/". ErrNoConditional, ErrUnavailable.
	Probe(ctx context.Context) error
	// Close frees what the driver holds. Calls under way may fail.
	Close() error
}

// Info describes one object.
type Info struct {
	Key      string
	Size     int64
	ETag     string // opaque, changes with the content; empty in a List
	Modified time.Time
}

var (
	// ErrNotFound means that there is no such object.
	ErrNotFound = errors.New("object not found")
	// ErrExists means that PutIfAbsent found an object.
	ErrExists = errors.New("object exists already")
	// ErrPrecondition means that the object is not, or no longer, the one named by the etag.
	// Errors that wrap it are *PreconditionError.
	ErrPrecondition = errors.New("object has changed")
	// ErrUnavailable means that the store did not answer or failed for now. The outcome of a
	// put or delete is unknown. Retry with back-off.
	ErrUnavailable = errors.New("store unavailable")
	// ErrRefused means that the store did nothing, for a reason outside of the call that a person or time can put right:
	// credentials, rights, a clock, a bucket that is not there or full, whatever a service has against it. Its text says
	// what. Any method may return it.
	ErrRefused = errors.New("store refuses")
	// ErrNoConditional means that the store accepts conditional puts but does not honour
	// them. It must not be used for a volume.
	ErrNoConditional = errors.New("store does not honour conditional writes")
)

// PreconditionError reports a failed PutIfMatch. It wraps ErrPrecondition.
type PreconditionError struct {
	Key  string
	Have string // the current etag, "" when not known or the object is gone
}

func (e *PreconditionError) Error() string {
	if e.Have == "" {
		return fmt.Sprintf("put %s: %v", e.Key, ErrPrecondition)
	}
	return fmt.Sprintf("put %s: %v: it is %s now", e.Key, ErrPrecondition, e.Have)
}

func (e *PreconditionError) Unwrap() error { return ErrPrecondition }
