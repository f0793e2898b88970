package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// DefaultLimit ends commands that would follow something for ever.
const DefaultLimit = time.Minute

// reopen is the pause before a console whose input has ended is opened again: one that hung up ends at once each time.
const reopen = time.Second

// Hint is what to say to somebody who does not know what to type.
const Hint = "this console takes ratchetctl commands: status, counter show, hw list, plugin list, power reboot, help"

// Options of a console. In, Out and Run are needed, but see Keep.
type Options struct {
	In  io.Reader
	Out io.Writer
	// Run runs one command with its output going to out; see Program.
	Run func(ctx context.Context, args []string, out io.Writer) error
	// Limit of one command; DefaultLimit if zero.
	Limit time.Duration
}

// Keep opens a console and serves it, again and again until ctx ends. A terminal's input ends when somebody types ^D, and
// that of a serial line when it hangs up: neither may be the end of the only way in. The options need no In and Out.
func Keep(ctx context.Context, open func() (io.ReadWriteCloser, error), o Options) {
	for ctx.Err() == nil {
		if c, err := open(); err == nil {
			o.In, o.Out = c, c
			Serve(ctx, o)
			c.Close()
		}
		select {
		case <-time.After(reopen):
		case <-ctx.Done():
		}
	}
}

// Program runs commands as `binary ctl --address ADDRESS ARGS…`.
func Program(binary, address string) func(context.Context, []string, io.Writer) error {
	return func(ctx context.Context, args []string, out io.Writer) error {
		cmd := exec.CommandContext(ctx, binary, append([]string{"ctl", "--address", address}, args...)...)
		cmd.Args[0] = "ratchet" // the name that has applets
		// No input: a command that reads it would take the lines meant for the next one.
		cmd.Stdout, cmd.Stderr = out, out
		cmd.Env = append(os.Environ(), "HOME=/nonexistent") // there are no logins on a box
		cmd.WaitDelay = time.Second
		err := cmd.Run()
		if ended := (*exec.ExitError)(nil); errors.As(err, &ended) && ctx.Err() == nil {
			return nil // it has said what was wrong
		}
		return err
	}
}

// Serve reads commands until In ends or ctx does. A read under way is left behind then: a console cannot be
// interrupted, and what serves it ends with the box.
func Serve(ctx context.Context, o Options) {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(o.In); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return
			}
			o.command(ctx, line)
		case <-ctx.Done():
			return
		}
	}
}

// command runs one line. The console outlives whatever it says.
func (o Options) command(ctx context.Context, line string) {
	args := strings.Fields(line)
	if len(args) > 0 && args[0] == "ratchetctl" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(o.Out, Hint)
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("stopped after %s", o.Limit))
	defer cancel()
	if err := o.Run(ctx, args, o.Out); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		fmt.Fprintf(o.Out, "%s: %v\n", args[0], err)
	}
}
