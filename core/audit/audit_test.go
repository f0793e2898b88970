package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, dir string) (*Trail, *slog.Logger) {
	t.Helper()
	trail, err := Open(dir, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trail.Close() })
	return trail, slog.New(trail.Handler())
}

func lineTexts(t *testing.T, trail *Trail, n int) []string {
	t.Helper()
	lines, err := trail.Lines(n)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, l := range lines {
		if i > 0 && l.Time.Before(lines[i-1].Time) {
			t.Errorf("line %d is older than the one before", i)
		}
		out = append(out, l.Text)
	}
	return out
}

// TestBounds: whatever happens, the newest lines are there, the room is bounded, and strangers do not push others out.
func TestBounds(t *testing.T) {
	for name, dir := range map[string]string{"file": t.TempDir(), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			trail, log := open(t, dir)
			log.Info("audit", "caller", "anna", "role", "admin", "target", "first")
			log.Info("audit", "caller", "", "role", "none", "target", "enrolled")
			for i := range 10_000 {
				log.Warn("audit", "caller", "", "role", "none", "target", fmt.Sprint("stranger ", i), "error", strings.Repeat("x", 5000))
			}
			got := lineTexts(t, trail, 0)
			all := strings.Join(got, "\n")
			for _, want := range []string{`"target":"first"`, `"target":"enrolled"`, `"target":"stranger 9999"`} {
				if !strings.Contains(all, want) {
					t.Errorf("no %s", want)
				}
			}
			if strings.Contains(all, `"stranger 0"`) || len(all) > 2*limit+1000 {
				t.Errorf("%d bytes are kept", len(all))
			}
			if last := lineTexts(t, trail, 2); len(last) != 2 || last[1] != got[len(got)-1] {
				t.Errorf("the last two of %d: %v", len(got), last)
			}
		})
	}
}

// TestGoesOn: a trail goes on behind a line that a power cut left unfinished.
func TestGoesOn(t *testing.T) {
	dir := t.TempDir()
	trail, log := open(t, dir)
	log.Info("audit", "target", "before")
	if err := trail.Close(); err != nil {
		t.Fatal(err)
	}
	log.Info("audit", "target", "after the end")
	f, err := os.OpenFile(filepath.Join(dir, "changes.log"), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString(`{"time":"2026-01-01T00:00:00Z","msg":"au` + "\x00\x00")
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	trail, log = open(t, dir)
	log.Info("audit", "target", "again")
	if got := lineTexts(t, trail, 0); len(got) != 2 || !strings.Contains(got[0], "before") || !strings.Contains(got[1], "again") {
		t.Errorf("%q", got)
	}
}

// TestFailureIsToldOnce: a full STATE is reported when it begins and not with every line.
func TestFailureIsToldOnce(t *testing.T) {
	told := 0
	trail, err := Open(t.TempDir(), func(error) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := trail.known.file
	log := slog.New(trail.Handler())
	for i, f := range []*os.File{full, full, good, full} {
		trail.known.file = f
		log.Info("audit")
		if want := []int{1, 1, 1, 2}[i]; told != want {
			t.Errorf("line %d: told %d times, want %d", i, told, want)
		}
	}
	good.Close()
}

// TestGoesOnWithRoom: the first line that has room again is not lost with the one that was cut off.
func TestGoesOnWithRoom(t *testing.T) {
	trail, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer trail.Close()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	log, file := slog.New(trail.Handler()), trail.known.file
	if _, err := file.WriteString(`{"time":"2026-01-01T00:`); err != nil { // as much as there was room for
		t.Fatal(err)
	}
	trail.known.file = full
	log.Info("audit", "target", "cut off")
	trail.known.file = file
	log.Info("audit", "target", "again")
	if got := lineTexts(t, trail, 0); len(got) != 1 || !strings.Contains(got[0], "again") {
		t.Errorf("%q", got)
	}
}

// TestClockThatIsPutBack: the newest lines are the last ones, whatever the clock said before them.
func TestClockThatIsPutBack(t *testing.T) {
	dir := t.TempDir()
	line := func(minute int, what string) string {
		return fmt.Sprintf(`{"time":"2027-01-01T12:%02d:00Z","target":%q}`+"\n", minute, what)
	}
	for name, text := range map[string]string{
		"changes.log":   line(1, "first") + line(50, "clock ahead") + line(4, "newest"),
		"strangers.log": line(55, "clock ahead, too") + line(3, "stranger"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trail, _ := open(t, dir)
	lines, err := trail.Lines(3)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for _, l := range lines {
		_, what, _ := strings.Cut(l.Text, `"target":`)
		got += what
	}
	if want := `"stranger"}"clock ahead"}"newest"}`; got != want {
		t.Errorf("the last three are %s, want %s", got, want)
	}
}
