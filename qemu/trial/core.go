package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/ratchetos/ratchet/core/plugin"
)

// invoke calls a feature's method as core would.
func invoke(ctx context.Context, f plugin.Invoker, method string, request, reply any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	answer, err := f.Invoke(ctx, method, text)
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	return json.Unmarshal(answer, reply)
}

// state is core's key-value space.
type state struct {
	plugin.Host
	mu   sync.Mutex
	keys map[string][]byte
}

func newState() *state { return &state{keys: map[string][]byte{}} }

func (s *state) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[key], nil
}

func (s *state) Put(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key] = value
	return nil
}

func (s *state) Delete(_ context.Context, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
	return nil
}

func (s *state) List(_ context.Context, prefix string) (keys []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.keys {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}
