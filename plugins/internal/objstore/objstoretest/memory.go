package objstoretest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// Memory is a store in memory for tests of what uses a store. It passes the same suite as the
// drivers do.
type Memory struct {
	mu      sync.Mutex
	objects map[string]object
}

type object struct {
	data     []byte
	modified time.Time
}

var _ objstore.Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{objects: make(map[string]object)} }

func etagOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

func (m *Memory) get(ctx context.Context, key string) (object, error) {
	if err := ctx.Err(); err != nil {
		return object{}, err
	}
	if err := objstore.CheckKey(key); err != nil {
		return object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if !ok {
		return object{}, fmt.Errorf("%s: %w", key, objstore.ErrNotFound)
	}
	return o, nil
}

// Get implements objstore.Store.
func (m *Memory) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	o, err := m.get(ctx, key)
	if err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("get %s: offset %d", key, off)
	}
	left := o.data[min(off, int64(len(o.data))):]
	if n >= 0 {
		left = left[:min(n, int64(len(left)))]
	}
	return slices.Clone(left), nil
}

// Load implements objstore.Store.
func (m *Memory) Load(ctx context.Context, key string) ([]byte, string, error) {
	o, err := m.get(ctx, key)
	if err != nil {
		return nil, "", err
	}
	return slices.Clone(o.data), etagOf(o.data), nil
}

// Head implements objstore.Store.
func (m *Memory) Head(ctx context.Context, key string) (objstore.Info, error) {
	o, err := m.get(ctx, key)
	if err != nil {
		return objstore.Info{}, err
	}
	return objstore.Info{Key: key, Size: int64(len(o.data)), ETag: etagOf(o.data), Modified: o.modified}, nil
}

// PutIfAbsent implements objstore.Store.
func (m *Memory) PutIfAbsent(ctx context.Context, key string, data []byte) (string, error) {
	return m.put(ctx, key, data, func(_ object, ok bool) error {
		if ok {
			return fmt.Errorf("put %s: %w", key, objstore.ErrExists)
		}
		return nil
	})
}

// PutIfMatch implements objstore.Store.
func (m *Memory) PutIfMatch(ctx context.Context, key string, data []byte, etag string) (string, error) {
	return m.put(ctx, key, data, func(o object, ok bool) error {
		switch {
		case !ok:
			return &objstore.PreconditionError{Key: key}
		case etagOf(o.data) != etag:
			return &objstore.PreconditionError{Key: key, Have: etagOf(o.data)}
		}
		return nil
	})
}

func (m *Memory) put(ctx context.Context, key string, data []byte, cond func(object, bool) error) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := objstore.CheckKey(key); err != nil {
		return "", err
	}
	if len(data) > objstore.MaxObject {
		return "", fmt.Errorf("put %s: %d bytes, an object has at most %d", key, len(data), objstore.MaxObject)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	if err := cond(o, ok); err != nil {
		return "", err
	}
	m.objects[key] = object{slices.Clone(data), time.Now()}
	return etagOf(data), nil
}

// List implements objstore.Store.
func (m *Memory) List(ctx context.Context, prefix, after string, fn func(objstore.Info) error) error {
	if err := objstore.CheckPrefix(prefix); err != nil {
		return err
	}
	m.mu.Lock()
	var list []objstore.Info
	for k, o := range m.objects {
		if strings.HasPrefix(k, prefix) && k > after {
			list = append(list, objstore.Info{Key: k, Size: int64(len(o.data)), Modified: o.modified})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(list, func(a, b objstore.Info) int { return strings.Compare(a.Key, b.Key) })
	for _, i := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(i); err != nil {
			return err
		}
	}
	return nil
}

// Delete implements objstore.Store.
func (m *Memory) Delete(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := objstore.CheckKey(key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	return nil
}

// Probe implements objstore.Store.
func (m *Memory) Probe(ctx context.Context) error { return objstore.ProbeConditional(ctx, m) }

// Close implements objstore.Store.
func (m *Memory) Close() error { return nil }
