package boot

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// console is the machine's console. Lines of init start with "ratchet: ".
type console struct {
	mu    sync.Mutex // over out
	out   io.Writer
	in    *os.File // nil when the console cannot be opened
	lines chan string
	// failing says that boots of both slots have failed: the console waits until somebody comes.
	failing bool
	// watchdog runs from the start of the boot; nil on a machine without one.
	watchdog *watchdog
}

func openConsole() *console {
	f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return &console{out: os.Stderr} // whatever the kernel gave us
	}
	return &console{out: f, in: f}
}

func (c *console) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// An unwritable console must not stop the boot.
	_, _ = fmt.Fprintf(c.out, "ratchet: "+format+"\n", args...)
}

// confirmLimit is how long init waits for the operator before it goes on isolated.
const confirmLimit = 2 * time.Minute

// confirm waits for one exact word; anything else, or silence, is a no.
func (c *console) confirm(ctx context.Context, question, word string) bool {
	c.say("%s", question)
	defer c.watchdog.attended()()
	c.say("type %q within %s to go on, anything else to stay isolated", word, confirmLimit)
	ctx, cancel := context.WithTimeout(ctx, confirmLimit)
	defer cancel()
	select {
	case line, ok := <-c.read():
		return ok && strings.TrimSpace(line) == word
	case <-ctx.Done():
		c.say("no answer")
		return false
	}
}

// read starts the one reader of the console. It may still wait for a line when core takes over: the
// exec ends it.
func (c *console) read() <-chan string {
	if c.lines == nil {
		lines := make(chan string)
		c.lines = lines
		go func() {
			defer close(lines)
			if c.in == nil {
				return
			}
			for s := bufio.NewScanner(c.in); s.Scan(); {
				lines <- s.Text()
			}
		}()
	}
	return c.lines
}

// lastResort keeps a console alive when core cannot be started. It never returns: PID 1 must not.
func (c *console) lastResort(why any) {
	c.say("verdict ISOLATED: init cannot go on: %v", why)
	c.watchdog.stop() // it would restart the box while somebody reads this
	c.say("next: type reboot or poweroff")
	for line := range c.read() {
		switch strings.TrimSpace(line) {
		case "reboot":
			c.down(unix.LINUX_REBOOT_CMD_RESTART)
		case "poweroff":
			c.down(unix.LINUX_REBOOT_CMD_POWER_OFF)
		case "":
		default:
			c.say("next: type reboot or poweroff")
		}
	}
	for { // no console to listen to: stay isolated until somebody switches the box off
		time.Sleep(time.Hour)
	}
}

func (c *console) down(how int) {
	c.watchdog.stop()
	unix.Sync()
	if err := unix.Reboot(how); err != nil {
		c.say("%v", err)
	}
}
