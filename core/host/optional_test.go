package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOptional starts a plugin without a disk that is not there, which it claims when it is, and has after a restart.
func TestOptional(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	h := newHost(t, Options{}, "one", "two")
	must(t, apply(t, h, map[string]probeConfig{"one": {Disk: "file:" + disk, Optional: true}}))
	claim := func(name string) error {
		_, err := h.Invoke(timeout(t), name, "claim disk", nil, "test")
		return err
	}
	for range 2 { // as often as it likes
		if err := claim("one"); err == nil || !strings.Contains(err.Error(), "it does not exist") {
			t.Errorf("claim what is not there: %v", err)
		}
	}
	must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	must(t, claim("one"))
	if err := claim("one"); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("claimed twice: %v", err)
	}
	must(t, h.Restart(timeout(t), "one"))
	if err := claim("one"); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("after a restart it has to be claimed again: %v", err)
	}

	// Hardware that nobody can name is missing, too; a disk that another has is a conflict.
	must(t, apply(t, h, map[string]probeConfig{"one": {Disk: "file:" + disk, Optional: true}, "two": {Disk: "serial:x", Optional: true}}))
	if s := statusOf(t, h, "two"); s.State != "ready" {
		t.Errorf("without its hardware it is %s: %s", s.State, s.Message)
	}
	if err := apply(t, h, map[string]probeConfig{"one": {Disk: "file:" + disk, Optional: true}, "two": {Disk: "file:" + disk, Optional: true}}); err == nil {
		t.Error("two plugins have one disk")
	}
}
