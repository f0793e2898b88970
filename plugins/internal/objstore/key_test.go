package objstore_test

import (
	"path"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/objstore"
)

// FuzzCheckKey holds every key that is accepted to what drivers rely on: it is a path that
// stays inside, needs no cleaning and no escaping, and every prefix of it passes CheckPrefix.
func FuzzCheckKey(f *testing.F) {
	for _, k := range []string{"a", "volumes/x/0001/data-9f", "a/../b", ".tmp/x", "a//b", "/a", "a/", "x\x00", strings.Repeat("k/", 300) + "k"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if objstore.CheckKey(key) != nil {
			return
		}
		if len(key) > objstore.MaxKey || path.Clean(key) != key || path.IsAbs(key) || strings.HasPrefix(key, "..") {
			t.Fatalf("key %q was accepted", key)
		}
		for i := range key {
			if err := objstore.CheckPrefix(key[:i]); err != nil {
				t.Fatalf("prefix of key %q: %v", key, err)
			}
		}
	})
}
