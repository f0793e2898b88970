// Package cache is the harness's corner of the user's cache folder: ${XDG_CACHE_HOME:-~/.cache}/ratchet.
// What lies there can be deleted at any time; it only makes the next run slower.
package cache

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Dir returns the folder ratchet/elem… in the user's cache folder and creates it if missing.
func Dir(elem ...string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set XDG_CACHE_HOME): %w", err)
	}
	dir := filepath.Join(append([]string{base, "ratchet"}, elem...)...)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, nil
}

// Lock waits for the advisory lock on path, which it creates if missing. The kernel drops the lock with the
// process, so a crash leaves none behind.
func Lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}
