package ctl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/command/commandtest"
)

// TestCommands runs testdata/ctl.txt: a command and the plugin's reply; what is asked and shown.
func TestCommands(t *testing.T) {
	commandtest.Run(t, "testdata/ctl.txt", Command)
}

// The file with the key is for its owner alone, also where there was another before.
func TestIdentityFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box.pem")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := Command(&commandtest.App{Reply: `{"identity": "-----BEGIN CERTIFICATE-----\n"}`})
	c.SetArgs([]string{"agent", "enroll", "web-1", "--file", path})
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "-----BEGIN CERTIFICATE-----\n" || st.Mode().Perm() != 0o600 {
		t.Errorf("%q with mode %o, %v", text, st.Mode().Perm(), err)
	}
}
