package systems

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTableOfSystems(t *testing.T) {
	all := All()
	if len(all) != 15 {
		t.Fatalf("%d systems", len(all))
	}
	seen := map[string]bool{}
	for _, s := range all {
		if seen[s.Test()] {
			t.Errorf("two systems are shown by %s", s.Test())
		}
		seen[s.Test()] = true
	}
	if got := (System{"migration-schedule"}).Test(); got != "TestSystemMigrationSchedule" {
		t.Error(got)
	}
}

func TestSelect(t *testing.T) {
	for only, want := range map[string]string{
		"lease":                        "lease",
		" pipeline , secure-counter, ": "secure-counter pipeline", // in the table's order
		"":                             strings.Join(names, " "),
		",":                            strings.Join(names, " "),
	} {
		chosen, err := Select(only)
		var got []string
		for _, s := range chosen {
			got = append(got, s.Name)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v, want %q", only, got, err, want)
		}
	}
	if _, err := Select("lease,leese"); err == nil || !strings.Contains(err.Error(), `"leese"`) {
		t.Errorf("got %v", err)
	}
}

// events builds test2json's output: action, test, text.
func events(rows ...string) string {
	var b strings.Builder
	for _, r := range rows {
		f := strings.SplitN(r, " ", 3)
		if len(f) == 2 {
			fmt.Fprintf(&b, `{"Action":%q,"Test":%q,"Elapsed":1.5}`+"\n", f[0], f[1])
		} else {
			fmt.Fprintf(&b, `{"Action":%q,"Test":%q,"Output":%q}`+"\n", f[0], f[1], f[2]+"\n")
		}
	}
	return b.String()
}

func TestJudge(t *testing.T) {
	lease := System{"lease"}
	for name, tc := range map[string]struct {
		events string
		want   string
	}{
		"ok":           {events("output TestSystemLease     a_test.go:7: seen: renewed twice", "pass TestSystemLease"), "system lease ok 1.5 renewed twice"},
		"two sights":   {events("output TestSystemLease     a_test.go:7: seen: one", "output TestSystemLease/x     b_test.go:9: seen: two", "pass TestSystemLease/x", "pass TestSystemLease"), "system lease ok 1.5 one; two"},
		"nothing seen": {events("pass TestSystemLease"), `system lease FAIL 1.5 passed, but logged no line "seen: …"`},
		"failed":       {events("output TestSystemLease     a_test.go:7: seen: renewed", "output TestSystemLease     a_test.go:8: expired: too early", "fail TestSystemLease"), "system lease FAIL 1.5 expired: too early"},
		"part skipped": {events("output TestSystemLease     a_test.go:7: seen: one", "skip TestSystemLease/x", "pass TestSystemLease"), "system lease FAIL 1.5 a part was skipped; a system that cannot be shown is not shown"},
		"another test": {events("output TestSystemLeaseX     a_test.go:7: seen: one", "pass TestSystemLeaseX"), "system lease FAIL 0.0 a_test.go:7: seen: one"},
		"crash":        {"panic: oh\n\ngoroutine 1 [running]:\n", "system lease FAIL 0.0 panic: oh"},
		"silence":      {"", "system lease FAIL 0.0 the test printed nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.ReplaceAll(judge(lease, strings.NewReader(tc.events)).String(), "    ", ""); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

// Cases of an attack table end in any order; their lines come out row by row, and are no failures.
func TestJudgeAttacks(t *testing.T) {
	o := judge(System{"lease"}, strings.NewReader(events(
		"output TestSystemLease     a_test.go:7: seen: renewed",
		"output TestSystemLease/b     a_test.go:8: attack: clock: set back: refused",
		"output TestSystemLease/a     a_test.go:8: attack: network: cut: expired",
		"output TestSystemLease/c     a_test.go:8: attack: clock: set ahead: expired",
		"output TestOther     a_test.go:8: attack: clock: not ours: 1",
		"pass TestSystemLease")))
	if got, want := strings.Join(o.Attacks, "; "), "clock: set back: refused; clock: set ahead: expired; network: cut: expired"; got != want || o.Status != OK {
		t.Errorf("got %s, %q, want %q", o.Status, got, want)
	}
}

func TestTable(t *testing.T) {
	dir := t.TempDir()
	results := map[string]Outcome{
		"secure-counter": {Status: OK, Elapsed: 2 * time.Second, Seen: "released", Log: "log\n", Attacks: []string{"no TPM: none: isolated"}},
		"lease":          {Status: NotBuilt, Seen: "there is no TestSystemLease"},
		"pipeline":       {Status: Fail, Elapsed: time.Second, Seen: "stuck", Log: "why\n"},
	}
	for _, tc := range []struct {
		rows []string
		want string
		err  error
	}{
		{[]string{"secure-counter", "lease"}, "attack no TPM: none: isolated\nsystem secure-counter ok 2.0 released\nsystem lease not built 0.0 there is no TestSystemLease\n1/15 systems\n", nil},
		{[]string{"pipeline", "secure-counter"}, "system pipeline FAIL 1.0 stuck\n  see " + dir + "/pipeline.log\nattack no TPM: none: isolated\nsystem secure-counter ok 2.0 released\n1/15 systems\n", ErrFailed},
	} {
		var out strings.Builder
		var chosen []System
		for _, r := range tc.rows {
			chosen = append(chosen, System{r})
		}
		err := table(Options{Out: &out, LogDir: dir}, chosen, func(s System) Outcome {
			o := results[s.Name]
			o.System = s
			return o
		})
		if !errors.Is(err, tc.err) || out.String() != tc.want {
			t.Errorf("%v: got %v\n%s", tc.rows, err, out.String())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "pipeline.log")); err != nil || string(b) != "why\n" {
		t.Errorf("log: %q, %v", b, err)
	}
}
