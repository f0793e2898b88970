package soak

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

const (
	enginePackage = "./boot/interrupt"
	// processes side by side: the reference TPM is one in a process.
	processes = 2
	// apart are the seeds of two processes.
	apart = 1_000_000
)

// engines runs the simulator's tests for as many interruptions as are wanted.
func engines(ctx context.Context, o Options) (tally, error) {
	total := tally{what: "engine"}
	binary := filepath.Join(o.Dir, "interrupt.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, enginePackage)
	if out, err := build.CombinedOutput(); err != nil {
		return total, fmt.Errorf("compile %s: %w\n%s", enginePackage, err, bytes.TrimSpace(out))
	}
	var parts [processes]tally
	var g errgroup.Group
	for i := range parts {
		g.Go(func() (err error) {
			n := o.Interruptions / processes
			if i == 0 {
				n += o.Interruptions % processes
			}
			parts[i], err = engine(ctx, o, binary, i, n)
			return err
		})
	}
	err := g.Wait()
	for _, p := range parts {
		total.tried, total.lost = total.tried+p.tried, total.lost+p.lost
	}
	return total, err
}

// engine is one process. A lost box is a result; a process that does not come to its last line is an error.
func engine(ctx context.Context, o Options, binary string, i, n int) (t tally, err error) {
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^TestSoak$", "-test.v", "-test.timeout", "2h",
		"-interruptions", strconv.Itoa(n), "-seed", strconv.FormatUint(o.Seed+uint64(i)*apart, 10))
	cmd.Dir = enginePackage
	out, failed := cmd.CombinedOutput()
	log := filepath.Join(o.Dir, fmt.Sprintf("engine-%d.log", i))
	if err := os.WriteFile(log, out, 0o644); err != nil {
		return t, err
	}
	for line := range strings.Lines(string(out)) {
		if k, _ := fmt.Sscanf(line, "soak secure-counter.engine %d tried, %d lost", &t.tried, &t.lost); k == 2 && (t.lost > 0) == (failed != nil) {
			if t.lost > 0 {
				fmt.Fprintf(o.Out, "  see %s\n", log)
			}
			return t, nil
		}
	}
	return t, fmt.Errorf("%s did not end as it should (%w); see %s", enginePackage, failed, log)
}
