package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestRevoke takes a disk from a plugin that runs: it runs on, and after a restart it has it again.
func TestRevoke(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, make([]byte, 1<<20), 0o600))
	h := newHost(t, Options{}, "one", "other")
	must(t, apply(t, h, map[string]probeConfig{"one": {Disk: "file:" + disk}, "other": {}}))
	before := statusOf(t, h, "one")
	had, err := h.Revoke("file:" + disk)
	if err != nil || !slices.Equal(had, []string{"one"}) {
		t.Errorf("revoked from %v, %v", had, err)
	}
	if s := statusOf(t, h, "one"); s.State != "ready" || s.PID != before.PID {
		t.Errorf("the plugin is %s, pid %d, was %d", s.State, s.PID, before.PID)
	}
	// Core's lock is gone with its end: the disk could be somebody else's.
	o, err := openDiskFile(disk)
	if err == nil {
		o.File.Close()
	}
	if had, err := h.Revoke("file:" + disk); err != nil || len(had) != 0 {
		t.Errorf("revoked again from %v, %v", had, err)
	}
	must(t, h.Restart(t.Context(), "one"))
	if s := statusOf(t, h, "one"); s.State != "ready" || s.PID == before.PID {
		t.Errorf("after a restart: %s, pid %d", s.State, s.PID)
	}
	if had, err := h.Revoke("file:" + disk); err != nil || len(had) != 1 {
		t.Errorf("after a restart %v have it, %v", had, err)
	}
}
