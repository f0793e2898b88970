// Ratchet is the one binary of the appliance. argv[0] or the first argument picks the applet:
//
//	init        from power-on to verdict (PID 1; the kernel starts it)
//	core        the plugin host; `ratchet core --config FILE` on a workstation
//	ctl         ratchetctl, the operator's command
//	agent       the dataplane's agent on a host that a box serves
//	vmhost      migration's agent on a hypervisor host with bare QEMU
//	gateway target dataplane migration   the plugins; core starts them
//
// This file is the only one that knows all of them.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/core"
	"github.com/ratchetos/ratchet/core/ctl"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane"
	"github.com/ratchetos/ratchet/plugins/dataplane/agent"
	dataplanectl "github.com/ratchetos/ratchet/plugins/dataplane/ctl"
	"github.com/ratchetos/ratchet/plugins/gateway"
	gatewayctl "github.com/ratchetos/ratchet/plugins/gateway/ctl"
	"github.com/ratchetos/ratchet/plugins/gateway/target"
	"github.com/ratchetos/ratchet/plugins/migration"
	migrationctl "github.com/ratchetos/ratchet/plugins/migration/ctl"
	"github.com/ratchetos/ratchet/plugins/migration/vmhost"
)

const usage = `usage: ratchet APPLET [argument ...]

Applets:
  ctl     ratchetctl: operate an appliance (ratchet ctl --help)
  core    run the plugin host on a workstation (ratchet core --help)
  agent   run the dataplane's agent on a host (ratchet agent --help)
  vmhost  run migration's agent on a hypervisor host (ratchet vmhost --help)

ratchet --version says which one this is.
init, gateway, target, dataplane and migration are started by the kernel and by core.
`

// applets are the names that the binary is known by, besides those of plugins.
var applets = []string{"init", "core", "ctl", "ratchetctl", "agent", "vmhost"}

func main() { os.Exit(run(os.Args)) }

func run(args []string) int {
	name := filepath.Base(args[0])
	if !slices.Contains(applets, name) && feature(name) == nil { // ratchet, or what the file was called when it was fetched
		if len(args) < 2 {
			fmt.Fprint(os.Stderr, usage)
			return 2
		}
		args = args[1:]
		name = args[0]
	}
	switch name {
	case "init":
		return boot.Main(args[1:])
	case "core":
		return core.Main(args[1:], features())
	case "ctl", "ratchetctl":
		return ctl.Main(args[1:], features(), commands()...)
	case "agent":
		return agent.Main(args[1:])
	case "vmhost":
		return vmhost.Main(args[1:])
	case "--version", "version":
		return ctl.Main([]string{"version"}, nil)
	case "-h", "--help", "help":
		fmt.Print(usage)
		return 0
	}
	if f := feature(name); f != nil {
		return plugin.Serve(f, plugin.ServeOptions{})
	}
	fmt.Fprintf(os.Stderr, "ratchet: there is no applet %q\n\n%s", name, usage)
	return 2
}

// commands are the plugins' own parts of ratchetctl.
func commands() []func(*ctl.App) *cobra.Command {
	return []func(*ctl.App) *cobra.Command{
		func(a *ctl.App) *cobra.Command { return gatewayctl.Command(a) },
		func(a *ctl.App) *cobra.Command { return dataplanectl.Command(a) },
		func(a *ctl.App) *cobra.Command { return migrationctl.Command(a) },
	}
}

// builtin are the plugins and the applets that they are.
var builtin = []struct {
	name string // as Describe has it
	make func() plugin.Feature
}{
	{"gateway", func() plugin.Feature { return gateway.New() }},
	{"target", func() plugin.Feature { return target.New() }},
	{"dataplane", func() plugin.Feature { return dataplane.New() }},
	{"migration", migration.New},
}

// features are the built-in plugins.
func features() (all []plugin.Feature) {
	for _, b := range builtin {
		all = append(all, b.make())
	}
	return all
}

// feature is the built-in plugin of a name, nil when there is none. It does not ask Describe, which
// makes schemas by reflection: a plugin's process needs none of them to start.
func feature(name string) plugin.Feature {
	for _, b := range builtin {
		if b.name == name {
			return b.make()
		}
	}
	return nil
}
