package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestOwnKeys runs docs/howto/own-keys.md as it stands: every command in an sh box, in order, in one shell. Only the
// appliance is not compiled for it, but is some program; the kernel is the real one.
func TestOwnKeys(t *testing.T) {
	text, err := os.ReadFile("../docs/howto/own-keys.md")
	if err != nil {
		t.Fatal(err)
	}
	script := `set -eux
image() { if [ "$1" = build ]; then command image "$@" --binary /bin/true; else command image "$@"; fi; }
` + boxes(string(text))
	if err := os.MkdirAll("../build", 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("../build", "howto-") //nolint:usetesting // a build looks for the source tree from where it runs
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+conf, "XDG_CONFIG_HOME="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// boxes are the commands of a page's sh boxes.
func boxes(page string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(page) {
		switch {
		case strings.TrimSpace(line) == "```sh":
			inside = true
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			inside = false
		case inside:
			b.WriteString(line)
		}
	}
	return b.String()
}
