package ctl

import (
	"os"
	"path/filepath"
	"regexp"
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

// TestCompletion: every command that takes a name offers those that there are.
func TestCompletion(t *testing.T) {
	reply := `{"vips": [{"name": "web", "address": "192.0.2.80"}], "groups": [{"name": "web"}], "services": [{"name": "web"}],
		"interfaces": [{"id": 71, "state": "attached"}], "agents": [{"name": "web-1", "joined": true}]}`
	for path, offered := range commandtest.Completions(t, Command(&commandtest.App{Reply: reply})) {
		if len(offered) != 1 || !regexp.MustCompile(`^(web|web-1|71)\t.`).MatchString(offered[0]) {
			t.Errorf("%s offers %q", path, offered)
		}
	}
}
