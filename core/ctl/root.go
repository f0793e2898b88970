package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/core/version"
)

// Main runs ratchetctl with the arguments behind its name and returns the exit code.
// Features are checked in this process by "config check"; extra adds commands of plugins.
func Main(args []string, features []plugin.Feature, extra ...func(*App) *cobra.Command) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends what does not heed the first
	a := &App{In: input{ctx, os.Stdin}, Out: os.Stdout, Err: os.Stderr, Features: features}
	root := a.Command(extra...)
	root.SetArgs(args)
	code, text := outcome(root.ExecuteContext(ctx))
	if a.client != nil {
		a.client.Close()
	}
	if text != "" {
		fmt.Fprintf(a.Err, "ratchetctl: %s\n", text)
	}
	return code
}

// Command builds the whole command tree, also for the generated reference.
func (a *App) Command(extra ...func(*App) *cobra.Command) *cobra.Command {
	a.socket = defaultSocket()
	root := group("ratchetctl", "Look after a Ratchet appliance",
		"ratchetctl talks to the management API of one appliance: over the local socket when it runs\n"+
			"on the box, otherwise with the certificate that \"ratchetctl login\" was given.\n\n"+
			"Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration invalid, 4 hardware not released, 5 box unreachable.",
		"  ratchetctl status\n  ratchetctl plugin logs gateway -f\n  ratchetctl config check appliance.yaml\n  ratchetctl hw list -o json",
		a.statusCommand(), a.pluginCommand(), a.pipelineCommand(), a.configCommand(), a.hwCommand(), a.firmwareCommand(), a.counterCommand(), a.updateCommand(), a.recoveryCommand(), a.imageCommand(),
		a.loginCommand(), a.tokenCommand(), a.auditCommand(), a.powerCommand(), a.versionCommand(),
	)
	for _, f := range extra {
		root.AddCommand(f(a))
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.address, "address", "", "box to talk to: HOST[:PORT] or unix:/PATH (default: the local socket, else the last login)")
	flags.StringVar(&a.context, "context", "", "login to use, by the name given to \"ratchetctl login --name\"")
	flags.StringVar(&a.configDir, "config-dir", defaultConfigDir(), "where logins are kept")
	flags.Lookup("config-dir").DefValue = "~/.config/ratchet" // the generated pages do not depend on who makes them
	flags.StringVarP(&a.output, "output", "o", "table", "output format: "+strings.Join(formats, ", "))
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)))
	must(root.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return a.contexts(), cobra.ShellCompDirectiveNoFileComp
	}))
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := c.ValidateRequiredFlags(); err != nil {
			return usage(fmt.Errorf("%w; usage: %s", err, c.UseLine()))
		}
		if !slices.Contains(formats, a.output) {
			return usage(fmt.Errorf("output format %q is not one of %s", a.output, strings.Join(formats, ", ")))
		}
		return nil
	}
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = version.Version
	root.SetVersionTemplate("ratchet {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(fmt.Errorf("%w; see: %s --help", err, c.CommandPath()))
	})
	root.InitDefaultCompletionCmd()
	uniform(root)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	return root
}

// defaultSocket is that of the box, or of a core that this user runs on a workstation.
// RATCHET_SOCKET names another.
func defaultSocket() string {
	if s := os.Getenv("RATCHET_SOCKET"); s != "" {
		return s
	}
	if _, err := os.Stat(api.SocketPath); err != nil {
		if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
			return filepath.Join(dir, "ratchet", filepath.Base(api.SocketPath))
		}
	}
	return api.SocketPath
}

var formats = []string{"table", "json", "yaml"}

// must is for cobra calls that fail only when this package names a flag wrongly.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// group is a command that only holds others.
func group(use, short, long, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Example: example}
	c.AddCommand(commands...)
	return c
}

// uniform makes all commands answer mistakes in one way, also those of plugins, which know nothing of exit codes: one that
// only holds others does not know any but those, and wrong arguments are an error of usage.
func uniform(c *cobra.Command) {
	if !c.Runnable() {
		c.Args, c.RunE, c.SuggestionsMinimumDistance = cobra.ArbitraryArgs, unknown, 2
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage(fmt.Errorf("%w; usage: %s", err, c.UseLine()))
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		uniform(sub)
	}
}

// unknown is what a command does that only holds others.
func unknown(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	message := fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath())
	if s := c.SuggestionsFor(args[0]); len(s) > 0 {
		message += fmt.Sprintf(" (did you mean %q?)", s[0])
	}
	return usage(errors.New(message + "; see: " + c.CommandPath() + " --help"))
}
