package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/ctl"
)

// The names by which processes are started are those that the plugins give themselves.
func TestFeatureNames(t *testing.T) {
	for _, f := range features() {
		name := f.Describe().GetName()
		if started := feature(name); started == nil || started.Describe().GetName() != name {
			t.Errorf("applet %q starts another plugin or none", name)
		}
	}
	if feature("core") != nil || feature("") != nil {
		t.Error("a plugin for a name that has none")
	}
}

// TestRenamed: the binary works under any name that is not an applet's.
func TestRenamed(t *testing.T) {
	for _, args := range [][]string{{"/usr/bin/ratchet", "ctl", "--frob"}, {"./ratchet_linux_amd64", "ctl", "--frob"}, {"ratchetctl", "--frob"}} {
		if code := run(args); code != ctl.ExitUsage {
			t.Errorf("%q ended with %d", args, code)
		}
	}
	for _, args := range [][]string{{"ratchet-1.2", "help"}, {"ratchet", "--version"}, {"ratchetctl", "--version"}} {
		if code := run(args); code != 0 {
			t.Errorf("%q ended with %d", args, code)
		}
	}
}

// TestCommands: every command of ratchetctl shows an example of itself, and completes what names a thing that the box has.
func TestCommands(t *testing.T) {
	thing := regexp.MustCompile(` \[?(NAME|VOLUME|VIP|GROUP|SERVICE|VNI|VM|MOVE|PLUGIN|DEVICE)\b`)
	unknown := regexp.MustCompile(`^(create|enroll|release NAME|peer|sign) ?`) // what it names is not there, or not listed
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return // cobra's own
		}
		if !strings.Contains(c.Example, "ratchetctl ") {
			t.Errorf("%s shows no example", c.CommandPath())
		}
		if thing.MatchString(c.Use) && c.ValidArgsFunction == nil && !unknown.MatchString(c.Use) {
			t.Errorf("%s does not complete its argument", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(new(ctl.App).Command(commands()...))
}
