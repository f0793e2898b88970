package state_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/core/state/statetest"
)

func TestMemory(t *testing.T) {
	statetest.Run(t, func(*testing.T) state.Store { return state.NewMemory() }, nil)
}

func TestBolt(t *testing.T) {
	var path string
	open := func(t *testing.T) state.Store {
		s, err := state.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	statetest.Run(t, func(t *testing.T) state.Store {
		path = filepath.Join(t.TempDir(), "state.db")
		return open(t)
	}, func(t *testing.T, s state.Store) state.Store {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t)
	})
}

func TestSecondCore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := state.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := state.Open(path); err == nil || !strings.Contains(err.Error(), "another core") {
		t.Errorf("second open: %v", err)
	}
}
