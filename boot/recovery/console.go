package recovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// MaxTries is how many wrong recovery keys one boot takes.
const MaxTries = 5

// MaxLine is the longest line that is looked at.
const MaxLine = 4096

const prompt = "recovery> "

// Reply is the answer to a line.
type Reply struct {
	Text   string // lines, each ended
	Prompt string // to print before the next line is read; "" at the end
	// Secret says that the next line must not be echoed.
	Secret bool
	// Wait is how long to wait before the next line is read.
	Wait time.Duration
	End  End
}

// Console is one session. The zero value is not usable; see New.
type Console struct {
	box   Box
	menu  []Option
	tries int
	// waits is what happens with the next line when it is no command.
	waits func(ctx context.Context, line string) Reply
}

// New makes a console; nothing is read or done before the first line.
func New(box Box) *Console { return &Console{box: box} }

// Open greets: why the console is here, where the box stands and what can be done.
func (c *Console) Open(ctx context.Context, why string) Reply {
	var b strings.Builder
	fmt.Fprintf(&b, "\nRecovery console: %s\n\n", why)
	c.writeStatus(ctx, &b)
	return Reply{Text: b.String(), Prompt: prompt}
}

// Line answers one line.
func (c *Console) Line(ctx context.Context, line string) Reply {
	if len(line) > MaxLine {
		return c.say("that line is too long")
	}
	if w := c.waits; w != nil {
		c.waits = nil
		return w(ctx, line)
	}
	args := strings.Fields(line)
	if len(args) == 0 {
		return Reply{Prompt: prompt}
	}
	if n, err := strconv.Atoi(args[0]); err == nil && len(args) == 1 {
		if n < 1 || n > len(c.menu) {
			return c.say("there is no %d in the list; type status to see it again", n)
		}
		args = strings.Fields(c.menu[n-1].Command)
	}
	if args[0] == "help" || args[0] == "?" {
		return Reply{Text: help(), Prompt: prompt}
	}
	for _, cmd := range commands {
		if cmd.name != args[0] {
			continue
		}
		if n := len(args) - 1; n < cmd.min || n > cmd.max {
			return c.say("usage: %s", cmd.usage)
		}
		return cmd.run(c, ctx, strings.Join(args[1:], " "))
	}
	return c.say("there is no command %q; type help", args[0])
}

func (c *Console) say(format string, args ...any) Reply {
	return Reply{Text: fmt.Sprintf(format+"\n", args...), Prompt: prompt}
}

// done answers what was done. A verdict that was changed for the better ends the console.
func (c *Console) done(text string, err error, end End) Reply {
	if err != nil {
		return c.say("not done: %v", err)
	}
	r := c.say("%s", text)
	if r.End = end; end != Stay {
		r.Prompt = ""
	}
	return r
}

// withKey asks for the recovery key, checks it and goes on.
func (c *Console) withKey(run func(ctx context.Context, key string) Reply) Reply {
	return c.withChecked(c.box.CheckKey, run)
}

func (c *Console) withChecked(check func(ctx context.Context, key string) error, run func(ctx context.Context, key string) Reply) Reply {
	if c.tries >= MaxTries {
		return c.say("%d wrong keys: no more are taken before the next boot", MaxTries)
	}
	c.waits = func(ctx context.Context, key string) Reply {
		if strings.TrimSpace(key) == "" {
			return c.say("nothing was done")
		}
		err := check(ctx, key)
		if errors.Is(err, ErrWrongKey) {
			c.tries++
			r := c.say("%v", err)
			r.Wait = time.Second << c.tries
			return r
		}
		if err != nil {
			return c.say("not done: %v", err)
		}
		c.tries = 0
		return run(ctx, key)
	}
	return Reply{Prompt: "recovery key (not shown, empty to stop): ", Secret: true}
}

// withWord asks for a word before something that cannot be undone.
func (c *Console) withWord(warning, word string, run func(context.Context) Reply) Reply {
	c.waits = func(ctx context.Context, line string) Reply {
		if strings.TrimSpace(line) != word {
			return c.say("nothing was done")
		}
		return run(ctx)
	}
	return Reply{Text: warning + "\n", Prompt: "type " + word + " to go on: "}
}

// released ends the console when the box may now start.
func (c *Console) released(ctx context.Context, text string, err error) Reply {
	if err == nil && c.box.Status(ctx).Verdict.Decision == verdict.Released {
		return c.done(text, nil, Continue)
	}
	return c.done(text, err, Stay)
}
