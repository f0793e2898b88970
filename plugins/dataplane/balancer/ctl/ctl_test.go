package ctl

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/command/commandtest"
)

// TestCommands runs testdata/ctl.txt in a folder with an identity: a command and the plugin's reply; what is asked and
// shown.
func TestCommands(t *testing.T) {
	script, err := filepath.Abs("testdata/ctl.txt")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("id.pem", []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	commandtest.Run(t, script, commandtest.Below("dataplane", Command))
	if b, err := os.ReadFile("file.pcap"); err != nil || string(b) != "pcap" {
		t.Errorf("captured %q, %v", b, err)
	}
}
