package systems

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options of a run. The zero value runs all systems.
type Options struct {
	// Only is a comma-separated list of names; empty means all.
	Only string
	// Out gets the table; os.Stdout if nil.
	Out io.Writer
	// LogDir keeps each row's output as NAME.log; build/systems if empty.
	LogDir string
	// Timeout bounds one row; 35 minutes if zero.
	Timeout time.Duration
}

// ErrFailed means that at least one row reads FAIL.
var ErrFailed = errors.New("not every system that is built works")

const pkg = "./qemu/systems"

// attackWord starts the lines of an attack table, as "system" starts a row of the table of systems.
const attackWord = "attack"

// Run runs the tests of the chosen systems, prints the table and returns ErrFailed if a row failed. It must run in
// the source tree. Its last line counts the rows that are ok among all fifteen, chosen or not.
func Run(ctx context.Context, o Options) error {
	chosen, err := Select(o.Only)
	if err != nil {
		return err
	}
	if o.Out == nil {
		o.Out = os.Stdout
	}
	if o.LogDir == "" {
		o.LogDir = filepath.Join("build", "systems")
	}
	if o.Timeout == 0 {
		o.Timeout = 35 * time.Minute
	}
	if err := os.MkdirAll(o.LogDir, 0o755); err != nil {
		return err
	}
	binary, built, err := compile(ctx, o.LogDir)
	if err != nil {
		return err
	}
	return table(o, chosen, func(s System) Outcome {
		if !slices.Contains(built, s.Test()) {
			return Outcome{System: s, Status: NotBuilt, Seen: "there is no " + s.Test()}
		}
		return run(ctx, binary, s, o.Timeout)
	})
}

// table prints a row as soon as it is known and what a reader of a failure needs next.
func table(o Options, chosen []System, run func(System) Outcome) error {
	ok, failed := 0, false
	for _, s := range chosen {
		r := run(s)
		for _, line := range r.Attacks {
			fmt.Fprintln(o.Out, attackWord, line)
		}
		fmt.Fprintln(o.Out, r)
		switch r.Status {
		case NotBuilt:
			continue
		case OK:
			ok++
		}
		log := filepath.Join(o.LogDir, s.Name+".log")
		if err := os.WriteFile(log, []byte(r.Log), 0o644); err != nil {
			return err
		}
		if r.Status == Fail {
			failed = true
			fmt.Fprintf(o.Out, "  see %s\n", log)
		}
	}
	fmt.Fprintf(o.Out, "%d/%d systems\n", ok, len(names))
	if failed {
		return ErrFailed
	}
	return nil
}

// compile builds the test binary once for all rows and lists the system tests in it.
func compile(ctx context.Context, dir string) (binary string, tests []string, err error) {
	if binary, err = filepath.Abs(filepath.Join(dir, "systems.test")); err != nil {
		return "", nil, err
	}
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, pkg)
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("compile the system tests: %w\n%s", err, bytes.TrimSpace(out))
	}
	list := exec.CommandContext(ctx, binary, "-test.list", "^TestSystem")
	list.Dir = pkg
	out, err := list.Output()
	if err != nil {
		return "", nil, fmt.Errorf("list the system tests: %w", err)
	}
	return binary, strings.Fields(string(out)), nil
}

// run runs one row. The test's own time limit comes first, with stacks in the log; if even that does not end it,
// the whole process group is killed.
func run(ctx context.Context, binary string, s System, timeout time.Duration) Outcome {
	start := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout+15*time.Second, fmt.Errorf("no end after %s", timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", "systems", binary,
		"-test.v=test2json", "-test.run", "^"+s.Test()+"$", "-test.timeout", timeout.String())
	cmd.Dir = pkg
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var events bytes.Buffer
	cmd.Stdout, cmd.Stderr = &events, &events
	err := cmd.Run()
	o := judge(s, &events)
	// A test whose parts run side by side does not count the time it waits for them.
	o.Elapsed = max(o.Elapsed, time.Since(start))
	switch {
	case ctx.Err() != nil:
		o.Status, o.Seen = Fail, context.Cause(ctx).Error()
	case err != nil && o.Status == OK: // passed, then crashed
		o.Status, o.Seen = Fail, err.Error()
	}
	return o
}
