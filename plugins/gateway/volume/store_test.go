package volume

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// memStore is a store in memory that can be made to fail.
type memStore struct {
	mu      sync.Mutex
	objects map[string]object
	version int
	gets    int
	// fault is asked before every call, with its name and key. unheard asks after a put
	// that was done whether its answer gets lost.
	fault   func(op, key string) error
	unheard func(key string) bool
	// lax makes conditional puts unconditional, as some services do.
	lax bool
}

type object struct {
	data []byte
	etag string
}

var _ objstore.Store = (*memStore)(nil)

func newStore() *memStore { return &memStore{objects: make(map[string]object)} }

func outage(string, string) error { return fmt.Errorf("outage: %w", objstore.ErrUnavailable) }

// set changes the faults while others use the store.
func (s *memStore) set(fault func(op, key string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *memStore) ask(ctx context.Context, op, key string) error {
	s.mu.Lock()
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(op, key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *memStore) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := s.ask(ctx, "get", key); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	o, ok := s.objects[key]
	if !ok {
		return nil, objstore.ErrNotFound
	}
	off = min(off, int64(len(o.data)))
	if n < 0 {
		n = int64(len(o.data))
	}
	return slices.Clone(o.data[off:min(off+n, int64(len(o.data)))]), nil
}

func (s *memStore) Load(ctx context.Context, key string) ([]byte, string, error) {
	if err := s.ask(ctx, "load", key); err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[key]
	if !ok {
		return nil, "", objstore.ErrNotFound
	}
	return o.data, o.etag, nil
}

func (s *memStore) Head(ctx context.Context, key string) (objstore.Info, error) {
	data, etag, err := s.Load(ctx, key)
	return objstore.Info{Key: key, Size: int64(len(data)), ETag: etag}, err
}

func (s *memStore) put(ctx context.Context, key string, data []byte, ok func(object, bool) error) (string, error) {
	if err := s.ask(ctx, "put", key); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, found := s.objects[key]
	if err := ok(old, found); err != nil && !s.lax {
		return "", err
	}
	s.version++
	o := object{slices.Clone(data), fmt.Sprint(s.version)}
	s.objects[key] = o
	if s.unheard != nil && s.unheard(key) {
		return "", fmt.Errorf("no answer: %w", objstore.ErrUnavailable)
	}
	return o.etag, nil
}

func (s *memStore) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	return s.put(ctx, key, data, func(_ object, found bool) error {
		if found {
			return objstore.ErrExists
		}
		return nil
	})
}

func (s *memStore) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	return s.put(ctx, key, data, func(old object, _ bool) error {
		if old.etag != etag {
			return &objstore.PreconditionError{Key: key, Have: old.etag}
		}
		return nil
	})
}

func (s *memStore) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	if err := s.ask(ctx, "list", prefix); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, o := range s.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			if err := fn(objstore.Info{Key: key, Size: int64(len(o.data)), ETag: o.etag}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *memStore) Delete(ctx context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
	return ctx.Err()
}

func (s *memStore) Probe(ctx context.Context) error {
	if err := s.ask(ctx, "probe", ""); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lax {
		return objstore.ErrNoConditional
	}
	return nil
}

func (s *memStore) Close() error { return nil }
