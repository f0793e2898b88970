package ctl

import (
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/command/commandtest"
)

// TestCommands runs testdata/ctl.txt: a command and the plugin's reply; what is asked and shown.
func TestCommands(t *testing.T) {
	commandtest.Run(t, "testdata/ctl.txt", commandtest.Below("dataplane", Command))
}
