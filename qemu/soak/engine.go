package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// sliceLimit ends a process that hangs; on a busy host it takes a few minutes.
	sliceLimit = 20 * time.Minute
	// brokenSlices is how many processes may end without a result before the soak gives up on their kind.
	brokenSlices = 3
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

// slicing is how much of a test one process does, and how it is told.
type slicing struct {
	what, test string
	n, each    int // in units of the flag that args sets
	args       func(n int, seed uint64) []string
}

// sliced runs a test in processes of a bounded size, one behind the other, each with seeds of its own: one that loses
// something or hangs is one slice, and the rest is done all the same. None begins after the budget.
func (s suite) sliced(ctx context.Context, o Options, p slicing) (tally, error) {
	total := tally{system: o.System, what: p.what}
	var errs []error
	for i, done := 0, 0; done < p.n && !o.over() && len(errs) < brokenSlices; i++ {
		n := min(p.each, p.n-done)
		t, err := s.run(ctx, o, p.what, i, sliceLimit, p.test, p.args(n, o.Seed+uint64(i)*apart)...)
		if ctx.Err() != nil {
			return total, context.Cause(ctx)
		}
		if err != nil {
			errs = append(errs, err)
		}
		done += n
		total.tried, total.lost = total.tried+t.tried, total.lost+t.lost
		if i%5 == 4 && done < p.n {
			fmt.Fprintf(o.Out, "  %s so far\n", total)
		}
	}
	return total, errors.Join(errs...)
}

// run is one process. A loss is a result; a process that does not come to its line is an error.
func (s suite) run(ctx context.Context, o Options, what string, i int, limit time.Duration, test string, args ...string) (tally, error) {
	t := tally{system: o.System, what: what}
	cmd := exec.CommandContext(ctx, s.binary, append([]string{"-test.run", "^" + test + "$", "-test.v", "-test.timeout", limit.String()}, args...)...)
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
