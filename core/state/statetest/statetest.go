// Package statetest is the conformance suite of core/state: every Store must pass it.
package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/core/state"
)

// Run checks the store that open returns. reopen closes it and opens it again; it is nil
// for a store that remembers nothing.
func Run(t *testing.T, open func(t *testing.T) state.Store, reopen func(t *testing.T, s state.Store) state.Store) {
	ctx := context.Background()
	put := func(t *testing.T, s state.Store, space, key, value string) {
		t.Helper()
		if err := s.Put(ctx, space, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	want := func(t *testing.T, s state.Store, space, key, value string, exists bool) {
		t.Helper()
		v, found, err := s.Get(ctx, space, key)
		if err != nil || found != exists || !bytes.Equal(v, []byte(value)) {
			t.Errorf("get %s/%s = %q, %v, %v; want %q, %v", space, key, v, found, err, value, exists)
		}
	}
	t.Run("missing", func(t *testing.T) {
		s := open(t)
		want(t, s, "a", "k", "", false)
		if keys, err := s.List(ctx, "a", ""); err != nil || len(keys) != 0 {
			t.Errorf("list of nothing = %v, %v", keys, err)
		}
		if err := s.Delete(ctx, "a", "k"); err != nil {
			t.Errorf("delete of a missing key: %v", err)
		}
	})
	t.Run("spaces", func(t *testing.T) {
		s := open(t)
		put(t, s, "a", "k", "1")
		put(t, s, "b", "k", "2")
		put(t, s, "a", "empty", "")
		put(t, s, "a", "k", "3")
		want(t, s, "a", "k", "3", true)
		want(t, s, "b", "k", "2", true)
		want(t, s, "a", "empty", "", true)
		if err := s.Delete(ctx, "a", "k"); err != nil {
			t.Fatal(err)
		}
		want(t, s, "a", "k", "", false)
		want(t, s, "b", "k", "2", true)
	})
	t.Run("list", func(t *testing.T) {
		s := open(t)
		for _, k := range []string{"b/2", "a", "b/1", "b", "c", "b/10"} {
			put(t, s, "s", k, "x")
		}
		keys, err := s.List(ctx, "s", "b/")
		if err != nil || !slices.Equal(keys, []string{"b/1", "b/10", "b/2"}) {
			t.Errorf("list = %v, %v", keys, err)
		}
		if keys, _ := s.List(ctx, "s", ""); len(keys) != 6 {
			t.Errorf("list of all = %v", keys)
		}
	})
	t.Run("limits", func(t *testing.T) {
		s := open(t)
		if err := s.Put(ctx, "s", "k", make([]byte, state.MaxValue+1)); !errors.Is(err, state.ErrTooLarge) {
			t.Errorf("large value: %v", err)
		}
		if err := s.Put(ctx, "s", string(make([]byte, state.MaxKey+1)), nil); !errors.Is(err, state.ErrTooLarge) {
			t.Errorf("large key: %v", err)
		}
		if err := s.Put(ctx, "s", "", nil); !errors.Is(err, state.ErrEmptyName) {
			t.Errorf("empty key: %v", err)
		}
		if err := s.Put(ctx, "s", "k", make([]byte, state.MaxValue)); err != nil {
			t.Errorf("largest value: %v", err)
		}
	})
	t.Run("ownership", func(t *testing.T) {
		s := open(t)
		v := []byte("abc")
		if err := s.Put(ctx, "s", "k", v); err != nil {
			t.Fatal(err)
		}
		v[0] = 'X'
		got, _, _ := s.Get(ctx, "s", "k")
		got[1] = 'X'
		want(t, s, "s", "k", "abc", true)
	})
	t.Run("cancelled", func(t *testing.T) {
		s := open(t)
		dead, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Put(dead, "s", "k", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("put: %v", err)
		}
		if _, _, err := s.Get(dead, "s", "k"); !errors.Is(err, context.Canceled) {
			t.Errorf("get: %v", err)
		}
	})
	t.Run("concurrent", func(t *testing.T) {
		s := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 5 {
					if err := s.Put(ctx, "s", fmt.Sprintf("%d/%d", i, j), []byte{byte(j)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if keys, err := s.List(ctx, "s", ""); err != nil || len(keys) != 40 {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		s := open(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := s.Put(ctx, "s", "k", nil); err == nil {
			t.Error("put after close works")
		}
	})
	if reopen != nil {
		t.Run("durable", func(t *testing.T) {
			s := open(t)
			put(t, s, "s", "k", "v")
			want(t, reopen(t, s), "s", "k", "v", true)
		})
	}
}
