package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

func everything() string {
	var names []string
	for _, a := range areas() {
		names = append(names, a.name)
	}
	return strings.Join(names, " ")
}

func TestChoose(t *testing.T) {
	for _, c := range []struct{ list, want string }{
		{"", everything()},
		{" gateway ", "gateway/local gateway/sustained gateway/remote gateway/s3backer gateway/memory gateway/cut"},
		{"gateway/cut,image", "image gateway/cut"},
		{"core", "core"},
		{"core, image", "image core"}, // always in the order of the run
		{"core,core", "core"},
	} {
		got, err := choose(c.list)
		if err != nil {
			t.Errorf("choose(%q): %v", c.list, err)
		}
		var names []string
		for _, a := range got {
			names = append(names, a.name)
		}
		if strings.Join(names, " ") != c.want {
			t.Errorf("choose(%q) = %v, want %s", c.list, names, c.want)
		}
	}
	for _, list := range []string{"gateways", "gateway/", "core,", "Core"} {
		if _, err := choose(list); err == nil || !strings.Contains(err.Error(), "image boot core") {
			t.Errorf("choose(%q): error %v, want one that names the areas", list, err)
		}
	}
}

func TestRunRefusesUnknownArea(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.json")
	if err := Run(t.Context(), Options{Areas: "lease", File: file}); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("figures were written")
	}
}

func TestLoadAverage(t *testing.T) {
	for text, want := range map[string]string{"3.13 4.82 4.70 2/345 99\n": "3.13", "": "unknown"} {
		if got := loadAverage(text); got != want {
			t.Errorf("loadAverage(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestParseTiming(t *testing.T) {
	// As init and core print them, after the prefix.
	const verdict = "RELEASED counter 3 expected 3 (24 TPM commands, box 0.21 s, unseal 0.18 s, all 0.80 s)"
	const ready = "3 of 3 plugins, 2.17 s after init, boot clock 4.41 s"
	got, err := parseTiming(verdict, ready)
	if want := (timing{commands: 24, boxVerdict: 0.21, unseal: 0.18, allVerdict: 0.8, initToReady: 2.17, ready: 4.41}); err != nil || got != want {
		t.Errorf("parseTiming = %+v, %v; want %+v", got, err, want)
	}
	for name, c := range map[string][2]string{
		"no times":         {"RELEASED counter 3 expected 3", ready},
		"other words":      {verdict, "3 plugins after 2 s"},
		"a plugin is away": {verdict, "2 of 3 plugins, 2.17 s after init, boot clock 4.41 s"},
		"none is enabled":  {verdict, "0 of 0 plugins, 2.17 s after init, boot clock 4.41 s"},
		"both empty":       {"", ""},
	} {
		if _, err := parseTiming(c[0], c[1]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestProcessNames(t *testing.T) {
	got := processNames([]string{"core", "gateway", "gateway", "page-store", "gateway"}, []bool{true, true, false, true, false})
	if want := "core gateway gateway_spare page_store gateway_spare2"; strings.Join(got, " ") != want {
		t.Errorf("names %v, want %s", got, want)
	}
}

func TestRecordMemory(t *testing.T) {
	var out bytes.Buffer
	s := &session{figures: Recorder{Out: &out}}
	s.recordMemory("full", &apipb.StatusReply{
		MemoryTotal: 1000 * mib, MemoryAvailable: 925 * mib, MemoryCompressed: 20 * mib,
		Plugins: []*apipb.Plugin{{Name: "gateway", Pid: 12}},
		Processes: []*apipb.Process{
			{Name: "init", Pid: 1, Pss: 16 * mib},
			{Name: "gateway", Pid: 12, Parent: 1, Pss: 11 * mib},
			{Name: "gateway", Pid: 15, Parent: 1, Pss: 9 * mib},
		},
	})
	const want = `bench boot.mem_used_full 75 MiB (goal <= 80)
bench boot.mem_compressed_full 20 MiB
bench boot.pss_full_core 16 MiB
bench boot.pss_full_gateway 11 MiB
bench boot.pss_full_gateway_spare 9 MiB
bench boot.pss_full_sum 36 MiB
`
	if out.String() != want {
		t.Errorf("recorded\n%swant\n%s", &out, want)
	}
}

func TestSteady(t *testing.T) {
	for _, c := range []struct {
		before, now uint64
		want        bool
	}{{80 * mib, 80 * mib, true}, {80 * mib, 81 * mib, true}, {82 * mib, 80 * mib, false}, {80 * mib, 83 * mib, false}} {
		if got := steady(c.before, c.now); got != c.want {
			t.Errorf("steady(%d, %d) = %t", c.before, c.now, got)
		}
	}
}

func TestChangeLine(t *testing.T) {
	const text = "a\n\tName: \"x\", Summary: \"volumes\",\n\tSummary: \"other\",\n"
	one, err := changeLine([]byte(text), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(text, "volumes", "1 volumes", 1); string(one) != want {
		t.Errorf("changed to %q, want %q", one, want)
	}
	two, err := changeLine(one, 2)
	if err != nil || bytes.Equal(one, two) {
		t.Errorf("the second change is the first one again (%v)", err)
	}
	if _, err := changeLine([]byte("package gateway\n"), 1); err == nil {
		t.Error("a file without the line: no error")
	}
}

// TestEditsThePlugin copies this very tree's plugin, so that a renamed file or field is found here and not by a bench.
func TestEditsThePlugin(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join("..", "..")
	if err := copyFile(filepath.Join(dir, editedFile), filepath.Join(root, editedFile)); err != nil {
		t.Fatal(err)
	}
	if err := editPlugin(dir, 1); err != nil {
		t.Error(err)
	}
}

func TestCopyTracked(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write := func(name string, mode os.FileMode) {
		path := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("a/b.go", 0o644)
	write("run", 0o755)
	write("gone", 0o644)
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = from
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	write("untracked", 0o644)
	if err := os.Remove(filepath.Join(from, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := copyTracked(t.Context(), to, from); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "a/b.go")); err != nil || string(b) != "a/b.go" {
		t.Errorf("a/b.go is %q, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(to, "run")); err != nil || st.Mode().Perm()&0o100 == 0 {
		t.Errorf("run is not executable: %v, %v", st, err)
	}
	for _, name := range []string{"untracked", "gone"} {
		if _, err := os.Stat(filepath.Join(to, name)); err == nil {
			t.Errorf("%s was copied", name)
		}
	}
	if err := copyTracked(t.Context(), to, t.TempDir()); err == nil {
		t.Error("a folder without git: no error")
	}
}

func TestBroken(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("negotiate: %w", io.ErrUnexpectedEOF), true},
		{fmt.Errorf("read: %w", syscall.ECONNRESET), true},
		{syscall.ECONNREFUSED, false}, // the socket stays with core: nobody may be refused
		{errors.New("no such export"), false},
		{context.DeadlineExceeded, false},
	} {
		if got := broken(c.err); got != c.want {
			t.Errorf("broken(%v) = %t, want %t", c.err, got, c.want)
		}
	}
}

func TestTail(t *testing.T) {
	var l tail
	for i := range tailLines + 5 {
		l.add(fmt.Sprint("line ", i))
	}
	got := strings.Split(l.String(), "\n")
	if len(got) != tailLines || got[0] != "line 5" || got[len(got)-1] != "line 24" {
		t.Errorf("kept %d lines, %q to %q", len(got), got[0], got[len(got)-1])
	}
}

func TestPerOperation(t *testing.T) {
	out := "goos: linux\nBenchmarkSlot-2   \t      20\t  47771425 ns/op\t 548.75 MB/s\nPASS\n"
	if ns, err := perOperation(out, "BenchmarkSlot"); ns != 47771425 || err != nil {
		t.Errorf("%v, %v", ns, err)
	}
	if _, err := perOperation(out, "BenchmarkRaw"); err == nil {
		t.Error("a benchmark that did not run has a time")
	}
}
