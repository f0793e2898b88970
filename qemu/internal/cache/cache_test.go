package cache

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestLockExcludes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir, err := Dir("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var inside atomic.Int32 // the race detector does not know about the kernel's locks
	for range 20 {
		wg.Go(func() {
			unlock, err := Lock(filepath.Join(dir, "lock"))
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d holders", n)
			}
			inside.Add(-1)
		})
	}
	wg.Wait()
}
