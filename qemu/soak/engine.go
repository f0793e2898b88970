package soak

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// suite is a compiled test binary whose tests interrupt something as often as a flag says, and print the result as
// "soak SYSTEM.WHAT n tried, n lost".
type suite struct{ pkg, binary string }

func compile(ctx context.Context, o Options, pkg string) (suite, error) {
	s := suite{pkg: pkg, binary: filepath.Join(o.Dir, strings.ReplaceAll(filepath.Clean(pkg), "/", "-")+".test")}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", s.binary, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return s, fmt.Errorf("compile %s: %w\n%s", pkg, err, bytes.TrimSpace(out))
	}
	return s, nil
}

// run is one process. A loss is a result; a process that does not come to its line is an error.
func (s suite) run(ctx context.Context, o Options, what string, i int, test string, args ...string) (tally, error) {
	t := tally{system: o.System, what: what}
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"-test.run", "^" + test + "$", "-test.v", "-test.timeout", "2h"}, args...)...)
	cmd.Dir = s.pkg
	out, failed := cmd.CombinedOutput()
	log := filepath.Join(o.Dir, fmt.Sprintf("%s-%d.log", what, i))
	if err := os.WriteFile(log, out, 0o644); err != nil {
		return t, err
	}
	prefix := fmt.Sprintf("soak %s.%s ", o.System, what)
	for line := range strings.Lines(string(out)) {
		_, rest, found := strings.Cut(line, prefix) // behind file and line, when the test logs it
		if !found {
			continue
		}
		if n, _ := fmt.Sscanf(rest, "%d tried, %d lost", &t.tried, &t.lost); n == 2 && (t.lost > 0) == (failed != nil) {
			if t.lost > 0 {
				fmt.Fprintf(o.Out, "  see %s\n", log)
			}
			return t, nil
		}
	}
	return t, fmt.Errorf("%s of %s did not end as it should (%w); see %s", test, s.pkg, failed, log)
}
