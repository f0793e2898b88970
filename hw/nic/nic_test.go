package nic

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReadFromSysfs(t *testing.T) {
	for _, tt := range []struct{ name, address, kind, want string }{
		{"permanent", "52:54:00:12:34:56", "0", "52:54:00:12:34:56"},
		{"upper case", "52:54:00:AB:CD:EF", "0", "52:54:00:ab:cd:ef"},
		{"random", "52:54:00:12:34:56", "1", ""},
		{"set by somebody", "52:54:00:12:34:56", "3", ""},
		{"zero", "00:00:00:00:00:00", "0", ""},
		{"group address", "53:54:00:12:34:56", "0", ""},
		{"InfiniBand", "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01", "0", ""},
		{"garbage", "hello", "0", ""},
	} {
		dir := t.TempDir()
		for file, data := range map[string]string{"address": tt.address, "addr_assign_type": tt.kind} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(data+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := Read(dir, "eth0", false); got.MAC != tt.want {
			t.Errorf("%s: MAC %q, want %q", tt.name, got.MAC, tt.want)
		}
	}
}

// A link that is not there, and one without an address, answer nothing and do not fail.
func TestAskTheKernel(t *testing.T) {
	for _, name := range []string{"lo", "none0", "a-name-that-is-too-long-for-a-link"} {
		if got := ask(name); got.MAC != "" {
			t.Errorf("%s has permanent address %s", name, got.MAC)
		}
	}
}
