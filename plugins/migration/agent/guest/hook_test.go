package guest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/plugins/migration/model"
)

// TestHook runs programs of the guest's owner, and none that could be somebody else's.
func TestHook(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, hookDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ran := filepath.Join(root, "ran")
	add := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil { // past the umask
			t.Fatal(err)
		}
	}
	add("quiesce", "echo x >>"+ran, 0o755)
	add("fails", "echo not today; exit 3", 0o700)
	add("sleeps", "sleep 60 & wait", 0o755)
	add("anybodys", "echo x >>"+ran, 0o757)
	add("text", "echo x >>"+ran, 0o644)
	if err := os.Symlink(filepath.Join(dir, "quiesce"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	a := New(Options{Root: root, Network: &network{}})
	for i, c := range []struct{ args, want string }{
		{`{"name":"quiesce"}`, `"result":{}`},
		{`{"name":"fails"}`, "exit status 3: not today"},
		{`{"name":"sleeps"}`, "not-reached"},
		{`{"name":"anybodys"}`, "writable by nobody else"},
		{`{"name":"elsewhere"}`, "writable by nobody else"},
		{`{"name":"text"}`, "is no program"},
		{`{"name":"absent"}`, "no-device"},
		{`{"name":"../../../bin/sh"}`, "bad-request"},
		{`{"name":""}`, "bad-request"},
	} {
		order := `{"id":"` + string(rune('a'+i)) + `","verb":"hook","wait_ms":300,"args":` + c.args + `}`
		first := ask(t, a, order)
		if !strings.Contains(first, c.want) {
			t.Errorf("%s: %s", c.args, first)
		}
		// Failed or not, under the same ID it is not run again.
		if again := ask(t, a, order); again != first {
			t.Errorf("%s again: %s", c.args, again)
		}
	}
	if b, err := os.ReadFile(ran); err != nil || string(b) != "x\n" {
		t.Errorf("ran %q, %v", b, err)
	}
	var names []string
	for _, h := range a.hooks() {
		names = append(names, strings.TrimPrefix(h.Name, model.CanHook))
	}
	if got := strings.Join(names, " "); got != "fails quiesce sleeps" {
		t.Errorf("offered: %s", got)
	}
}
