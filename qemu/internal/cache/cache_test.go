package cache

import (
	"path/filepath"
	"sync"
	"testing"
)

func TestLockExcludes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	dir, err := Dir("a", "b")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	inside := 0 // guarded by the lock alone; the race detector and the count both notice if it fails
	for range 20 {
		wg.Go(func() {
			unlock, err := Lock(filepath.Join(dir, "lock"))
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if inside++; inside != 1 {
				t.Errorf("%d holders", inside)
			}
			inside--
		})
	}
	wg.Wait()
}
