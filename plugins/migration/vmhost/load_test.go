package vmhost

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/model/load"
)

// TestLoad: of a machine with two processors, as its proc shows it. What waits for a disk is not busy, what was stolen is.
func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"stat": "cpu  1000 100 500 90000 4000 20 30 350 800 0\n" +
			"cpu0 500 50 250 45000 2000 10 15 175 400 0\ncpu1 500 50 250 45000 2000 10 15 175 400 0\nbtime 1772481600\n",
		"meminfo": "MemTotal:        8000000 kB\nMemFree:          100000 kB\nMemAvailable:    3000000 kB\n",
		"net/dev": "Inter-|   Receive                                                |  Transmit\n" +
			" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
			"  eth0: 7000 10 0 0 0 0 0 0 9000 20 0 0 0 0 0 0\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l, err := readLoad(dir)
	if err != nil {
		t.Fatal(err)
	}
	if l.CPUs != 2 || l.Busy != 20*time.Second || l.Memory != 8000000<<10 || l.Available != 3000000<<10 || l.NICs["eth0"] != (load.NIC{Sent: 9000, Received: 7000}) {
		t.Errorf("the load is %+v", l)
	}
	if err := os.WriteFile(filepath.Join(dir, "stat"), []byte("cpu  nonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err := readLoad(dir); err == nil {
		t.Errorf("nonsense is a load: %+v", l)
	}
}
