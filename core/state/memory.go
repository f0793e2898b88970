package state

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
)

// errClosed is what a closed Memory answers.
var errClosed = errors.New("state store is closed")

// Memory is a Store that forgets everything at the end of the process.
type Memory struct {
	mu     sync.Mutex
	spaces map[string]map[string][]byte
	closed bool
}

var _ Store = (*Memory)(nil)

// NewMemory makes an empty Memory.
func NewMemory() *Memory { return &Memory{spaces: make(map[string]map[string][]byte)} }

// lock takes the lock and says whether the store can be used.
func (m *Memory) lock(ctx context.Context) (unlock func(), err error) {
	m.mu.Lock()
	if m.closed {
		err = errClosed
	} else {
		err = ctx.Err()
	}
	return m.mu.Unlock, err
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, space, key string) ([]byte, bool, error) {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return nil, false, fmt.Errorf("get %s/%s: %w", space, key, err)
	}
	v, ok := m.spaces[space][key]
	if !ok {
		return nil, false, nil
	}
	return append([]byte{}, v...), true, nil
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, space, key string, value []byte) error {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err := errors.Join(err, check(space, key, value)); err != nil {
		return fmt.Errorf("put %s/%.40s: %w", space, key, err)
	}
	if m.spaces[space] == nil {
		m.spaces[space] = make(map[string][]byte)
	}
	m.spaces[space][key] = append([]byte{}, value...)
	return nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, space, key string) error {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err := errors.Join(err, check(space, key, nil)); err != nil {
		return fmt.Errorf("delete %s/%.40s: %w", space, key, err)
	}
	delete(m.spaces[space], key)
	return nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, space, prefix string) ([]string, error) {
	unlock, err := m.lock(ctx)
	defer unlock()
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", space, err)
	}
	var keys []string
	for k := range m.spaces[space] {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys, nil
}

// Close implements Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
