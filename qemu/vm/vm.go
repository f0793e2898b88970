package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"sync"
	"time"
)

// ErrLimit is the cause when a machine ran into Config.Limit.
var ErrLimit = errors.New("the machine's time limit has passed")

// errKilled is the cause when Kill or Close ended the machine.
var errKilled = errors.New("killed")

// VM is a running machine, or what is left of it.
type VM struct {
	name     string
	started  time.Time
	qemu     *process
	tpm      *process // nil without one
	qmp      *QMP
	console  *Console
	input    *os.File
	forwards map[int]string
	files    []io.Closer
	temp     string // removed by Close; may be empty
	log      string // path of QEMU's and swtpm's messages

	cancel    context.CancelCauseFunc
	cause     error         // why we ended it, if we did; valid after done
	end       time.Time     // valid after done
	done      chan struct{} // closed when every process is gone
	closeOnce sync.Once
}

// Exit tells how a machine ended.
type Exit struct {
	// Reason is QEMU's word (guest-shutdown, guest-reset, guest-panic, host-qmp-quit, …), or "killed".
	Reason string
	// Elapsed is the host time from Start to the end.
	Elapsed time.Duration
}

// Start boots a machine. When it returns, QEMU is running and answers; the guest has only begun.
// The end of ctx kills the machine.
func Start(ctx context.Context, c Config) (*VM, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	accel, err := Accelerator(ctx, c.Firmware)
	if err != nil {
		return nil, fmt.Errorf("start %s: choose an accelerator: %w", c.Name, err)
	}
	return start(ctx, c, accel)
}

func start(ctx context.Context, c Config, accel Accel) (*VM, error) {
	v := &VM{name: c.Name, done: make(chan struct{})}
	if err := v.launch(ctx, c, accel); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return v, nil
}

// Expect waits for console output that matches pattern, a regular expression that is applied line by line, behind
// what the last Expect matched. It fails when ctx or the machine ends first; the error shows the end of the console.
func (v *VM) Expect(ctx context.Context, pattern string) (Match, error) {
	return v.expect(ctx, pattern, true)
}

// ExpectLine is Expect for lines that have ended. An expression that takes the rest of a line wants it: Expect would
// be content with the part that has arrived.
func (v *VM) ExpectLine(ctx context.Context, pattern string) (Match, error) {
	return v.expect(ctx, pattern, false)
}

func (v *VM) expect(ctx context.Context, pattern string, unfinished bool) (Match, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return Match{}, fmt.Errorf("%s: expect: %w", v.name, err)
	}
	m, err := v.console.await(ctx, re, unfinished)
	if errors.Is(err, errConsoleClosed) {
		<-v.done
		if v.cause != nil {
			err = v.cause
		}
	}
	if err != nil {
		return Match{}, fmt.Errorf("%s: expect %q: %w; %s%s", v.name, pattern, err, v.console.tail(), v.stuck())
	}
	return m, nil
}

// Send types text on the console, as it is.
func (v *VM) Send(text string) error {
	// A guest that does not read fills QEMU's buffer and then the pipe; that must not block for ever.
	_ = v.input.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(v.input, text); err != nil {
		return fmt.Errorf("%s: send to the console: %w", v.name, err)
	}
	return nil
}

// SendLine types a line and the return key.
func (v *VM) SendLine(line string) error { return v.Send(line + "\n") }

// Console returns what the machine printed so far.
func (v *VM) Console() []Line { return v.console.Lines() }

// QMP is the machine's control connection.
func (v *VM) QMP() *QMP { return v.qmp }

// PID is QEMU's process id.
func (v *VM) PID() int { return v.qemu.pid }

// Forward returns the address, 127.0.0.1:port, at which a TCP port of the guest can be reached, or "" if no
// NIC of the configuration forwards that port.
func (v *VM) Forward(guest int) string { return v.forwards[guest] }

// Elapsed is the host time since Start, the clock of Line.At.
func (v *VM) Elapsed() time.Duration { return time.Since(v.started) }

// CPUTime is the user and system time QEMU has used so far. Under TCG on a shared machine it says more about the
// cost of a boot than Elapsed. It is exact only after Wait; before, it counts in steps of 10 ms.
func (v *VM) CPUTime() (time.Duration, error) { return v.qemu.cpuTime() }

// PowerDown presses the power button (ACPI) and waits until the guest has shut down.
func (v *VM) PowerDown(ctx context.Context) (Exit, error) {
	if err := v.qmp.Do(ctx, "system_powerdown", nil, nil); err != nil {
		return Exit{}, fmt.Errorf("%s: power down: %w", v.name, err)
	}
	return v.Wait(ctx)
}

// Reset presses the reset button.
func (v *VM) Reset(ctx context.Context) error {
	if err := v.qmp.Do(ctx, "system_reset", nil, nil); err != nil {
		return fmt.Errorf("%s: reset: %w", v.name, err)
	}
	return nil
}

// Kill pulls the plug: QEMU ends without a chance to write anything. It returns when every process is gone.
func (v *VM) Kill() {
	v.cancel(errKilled)
	<-v.done
}

// Wait waits until the machine and everything that belongs to it has ended. That the guest powered off, or was
// killed by Kill or Close, is no error.
func (v *VM) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-v.done:
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("%s: wait for the end: %w; %s", v.name, context.Cause(ctx), v.console.tail())
	}
	switch {
	case errors.Is(v.cause, errKilled):
		return Exit{Reason: "killed", Elapsed: v.ended()}, nil
	case v.cause != nil:
		return Exit{}, fmt.Errorf("%s: ended by the harness: %w; %s", v.name, v.cause, v.console.tail())
	case v.qemu.err != nil:
		return Exit{}, fmt.Errorf("%s: QEMU failed: %w%s", v.name, v.qemu.err, v.messages())
	}
	return Exit{Reason: v.shutdownReason(), Elapsed: v.ended()}, nil
}

// shutdownReason is what QEMU said last. Its end of the connection is closed, so no message is still under way
// once the reader has seen the end.
func (v *VM) shutdownReason() string {
	<-v.qmp.ended
	reason := "unknown"
	for _, e := range v.qmp.recent() {
		var data struct{ Reason string }
		if e.Name == "SHUTDOWN" && json.Unmarshal(e.Data, &data) == nil {
			reason = data.Reason
		}
	}
	return reason
}

func (v *VM) ended() time.Duration { return v.end.Sub(v.started) }

// Close kills the machine if it still runs, waits for its processes and removes the temporary folder.
// Calling it again does nothing.
func (v *VM) Close() error {
	var err error
	v.closeOnce.Do(func() {
		v.Kill()
		if v.temp != "" {
			err = os.RemoveAll(v.temp)
		}
	})
	return err
}
