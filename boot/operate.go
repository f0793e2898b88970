package boot

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/recovery"
)

// consoleIdle ends a session that nobody types in: a box must not stand still for ever because
// somebody once asked for the console.
const consoleIdle = 10 * time.Minute

// forever is longer than anybody waits.
const forever = 10 * 365 * 24 * time.Hour

// operate offers the recovery console and runs the session. It ends in any case.
func (c *console) operate(ctx context.Context, session *recovery.Console, e Entry) recovery.End {
	if c.in == nil {
		return recovery.Continue
	}
	defer c.watchdog.attended()()
	if e.Wait > 0 {
		c.say("%s; press Enter within %s for the recovery console", e.Why, e.Wait)
		if _, ok := c.line(ctx, e.Wait); !ok {
			return recovery.Continue
		}
	}
	r := session.Open(ctx, e.Why)
	for {
		c.write(r.Text)
		if r.End != recovery.Stay {
			return r.End
		}
		if r.Wait > 0 {
			select {
			case <-time.After(r.Wait):
			case <-ctx.Done():
			}
		}
		c.write(r.Prompt)
		restore := func() {}
		if r.Secret {
			restore = c.noEcho()
		}
		idle := consoleIdle
		if c.failing {
			idle = forever // going on would only fail again, for ever
		}
		line, ok := c.line(ctx, idle)
		restore()
		if r.Secret {
			c.write("\n") // the one that was typed was not shown
		}
		if !ok {
			c.say("nobody has typed for %s: the boot goes on", consoleIdle)
			return recovery.Continue
		}
		r = session.Line(ctx, line)
	}
}

// line waits for one line; ok is false when none came, or none can come.
func (c *console) line(ctx context.Context, limit time.Duration) (text string, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case text, ok = <-c.read():
	case <-ctx.Done():
	}
	return text, ok
}

// write prints text as it is, unlike say, which is for single lines of init.
func (c *console) write(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// An unwritable console must not stop the boot.
	_, _ = fmt.Fprint(c.out, text)
}

// noEcho keeps the terminal from showing what is typed until restore is called. What is no terminal
// shows nothing anyway.
func (c *console) noEcho() (restore func()) {
	var before *unix.Termios
	set := func(t unix.Termios) func(uintptr) {
		return func(fd uintptr) { _ = unix.IoctlSetTermios(int(fd), unix.TCSETS, &t) }
	}
	// Not Fd: that would switch a file which is being read to blocking reads.
	raw, err := c.in.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { before, _ = unix.IoctlGetTermios(int(fd), unix.TCGETS) })
	}
	if err != nil || before == nil {
		return func() {}
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO | unix.ECHONL
	_ = raw.Control(set(quiet))
	return func() { _ = raw.Control(set(*before)) }
}
