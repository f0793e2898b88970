package recovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

type command struct {
	name, usage, help string
	min, max          int // arguments
	run               func(c *Console, ctx context.Context, arg string) Reply
}

// commands are in the order of the help text; help itself is Line's.
var commands = [...]command{
	{"status", "status", "where the box stands and what can be done", 0, 0, (*Console).status},
	{"provision", "provision", "make an unprovisioned box a new one", 0, 0, (*Console).provision},
	{"validate", "validate [DEVICE]", "release what is proven good: the box, or one device", 0, 1, (*Console).validate},
	{"recover", "recover DEVICE", "admit a device, take its firmware or forget it (recovery key)", 1, 1, (*Console).recover},
	{"reflash", "reflash A|B", "write an image slot from a signed bundle on a USB stick", 1, 4, (*Console).reflash},
	{"accept", "accept", "take the box as it is (recovery key)", 0, 0, (*Console).accept},
	{"factory-reset", "factory-reset", "destroy keys, data and configuration (recovery key)", 0, 0, (*Console).reset},
	{"request", "request TEXT", "carry out what `ratchetctl recovery sign` printed", 1, 1, (*Console).request},
	{"enroll", "enroll [keep]", "write this image's Secure Boot keys into the firmware", 0, 1, (*Console).enroll},
	{"log", "log", "what init has said so far", 0, 0, (*Console).log},
	{"continue", "continue", "go on with the boot", 0, 0, end(Continue)},
	{"reboot", "reboot", "restart the machine", 0, 0, end(Reboot)},
	{"poweroff", "poweroff", "switch the machine off", 0, 0, end(PowerOff)},
}

func help() string {
	var b strings.Builder
	for _, cmd := range commands {
		fmt.Fprintf(&b, "  %-18s %s\n", cmd.usage, cmd.help)
	}
	b.WriteString("  reflash A|B URL [ADDRESS/LENGTH [GATEWAY]]\n")
	b.WriteString("                     the same over the quarantine NIC of the image's policy; DHCP without an address\n")
	b.WriteString("  NUMBER             run that line of the status\n")
	return b.String()
}

func end(e End) func(*Console, context.Context, string) Reply {
	return func(*Console, context.Context, string) Reply { return Reply{End: e} }
}

func (c *Console) status(ctx context.Context, _ string) Reply {
	var b strings.Builder
	c.writeStatus(ctx, &b)
	return Reply{Text: b.String(), Prompt: prompt}
}

func (c *Console) provision(ctx context.Context, _ string) Reply {
	text, err := c.box.Provision(ctx)
	return c.released(ctx, text, err)
}

func (c *Console) validate(ctx context.Context, device string) Reply {
	text, err := c.box.Validate(ctx, device)
	if device != "" {
		return c.done(text, err, Stay) // there may be more devices to see to
	}
	return c.released(ctx, text, err)
}

func (c *Console) recover(_ context.Context, device string) Reply {
	return c.withKey(func(ctx context.Context, _ string) Reply {
		text, err := c.box.Recover(ctx, device)
		return c.done(text, err, Stay)
	})
}

func (c *Console) reflash(ctx context.Context, arg string) Reply {
	args := strings.Fields(arg)
	text, err := c.box.Reflash(ctx, strings.ToUpper(args[0]), args[1:])
	return c.done(text, err, Stay)
}

func (c *Console) accept(ctx context.Context, _ string) Reply {
	r := c.withKey(func(ctx context.Context, key string) Reply {
		text, err := c.box.Accept(ctx, key)
		return c.released(ctx, text, err)
	})
	if r.Secret {
		s := c.box.Status(ctx)
		r.Text = fmt.Sprintf("This takes counter, ledger, configuration and devices as they are now, although: %s\n", s.Verdict.Reason)
	}
	return r
}

func (c *Console) reset(context.Context, string) Reply {
	return c.withWord("This destroys the keys of STATE and DATA, the configuration and what the TPM knows of this box.", "erase",
		func(context.Context) Reply {
			return c.withChecked(c.mayReset, func(ctx context.Context, key string) Reply {
				text, err := c.box.Reset(ctx, key)
				return c.done(text, err, Reboot)
			})
		})
}

// mayReset lets a box go that nothing knows a key of: nothing is left on it that one would open.
func (c *Console) mayReset(ctx context.Context, key string) error {
	if err := c.box.CheckKey(ctx, key); !errors.Is(err, ErrNoKey) {
		return err
	}
	return nil
}

// enroll shows what would be written first: nothing else undoes it but the firmware's own setup.
func (c *Console) enroll(ctx context.Context, arg string) Reply {
	if arg != "" && arg != "keep" {
		return c.say("usage: enroll, or enroll keep to leave the firmware's own certificates beside ours")
	}
	e, err := c.box.Enroll(ctx, arg == "keep")
	if err != nil {
		return c.done("", err, Stay)
	}
	return c.withWord(e.Text, "enroll", func(context.Context) Reply {
		return c.done("the keys are in the firmware; with the restart Secure Boot is on", e.Write(), Reboot)
	})
}

func (c *Console) request(ctx context.Context, text string) Reply {
	text, err := c.box.Request(ctx, text)
	return c.released(ctx, text, err)
}

func (c *Console) log(context.Context, string) Reply {
	lines := c.box.Log()
	if len(lines) == 0 {
		return c.say("nothing was said so far")
	}
	return c.say("%s", strings.Join(lines, "\n"))
}
