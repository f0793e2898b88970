// Package limit bounds what is under way at a store: calls, and bytes of objects in memory.
package limit

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Options say how much may be under way. Zero fields have defaults.
type Options struct {
	Calls int64 // 0 means 8
	Bytes int64 // of puts and gets together, 0 means 2 × MaxObject
}

// Store is a store whose calls wait for their turn. List and Probe make calls of their own
// accord and are not limited.
type Store struct {
	objstore.Store
	calls, bytes *semaphore.Weighted
	maxBytes     int64
}

var _ objstore.Store = (*Store)(nil)

// New wraps s.
func New(s objstore.Store, o Options) *Store {
	if o.Calls <= 0 {
		o.Calls = 8
	}
	if o.Bytes <= 0 {
		o.Bytes = 2 * objstore.MaxObject
	}
	return &Store{Store: s, calls: semaphore.NewWeighted(o.Calls), bytes: semaphore.NewWeighted(o.Bytes), maxBytes: o.Bytes}
}

// enter waits for room. A call larger than the whole limit goes alone.
func (s *Store) enter(ctx context.Context, bytes int64) (leave func(), err error) {
	bytes = min(bytes, s.maxBytes)
	// In one order everywhere, so that two calls cannot wait for each other.
	if err := s.calls.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	if err := s.bytes.Acquire(ctx, bytes); err != nil {
		s.calls.Release(1)
		return nil, fmt.Errorf("wait for a turn: %w", err)
	}
	return func() { s.bytes.Release(bytes); s.calls.Release(1) }, nil
}

// Get implements objstore.Store. A get of unknown length counts as the largest object.
func (s *Store) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if n < 0 || n > objstore.MaxObject {
		n = objstore.MaxObject
	}
	leave, err := s.enter(ctx, n)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.Store.Get(ctx, key, off, n)
}

// Load implements objstore.Store.
func (s *Store) Load(ctx context.Context, key string) ([]byte, string, error) {
	leave, err := s.enter(ctx, objstore.MaxObject)
	if err != nil {
		return nil, "", err
	}
	defer leave()
	return s.Store.Load(ctx, key)
}

// Head implements objstore.Store.
func (s *Store) Head(ctx context.Context, key string) (objstore.Info, error) {
	leave, err := s.enter(ctx, 0)
	if err != nil {
		return objstore.Info{}, err
	}
	defer leave()
	return s.Store.Head(ctx, key)
}

// PutIfAbsent implements objstore.Store.
func (s *Store) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	leave, err := s.enter(ctx, int64(len(data)))
	if err != nil {
		return "", err
	}
	defer leave()
	return s.Store.PutIfAbsent(ctx, key, data)
}

// PutIfMatch implements objstore.Store.
func (s *Store) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	leave, err := s.enter(ctx, int64(len(data)))
	if err != nil {
		return "", err
	}
	defer leave()
	return s.Store.PutIfMatch(ctx, key, data, etag)
}

// Delete implements objstore.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	leave, err := s.enter(ctx, 0)
	if err != nil {
		return err
	}
	defer leave()
	return s.Store.Delete(ctx, key)
}
