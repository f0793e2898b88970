// Command gen writes what is generated from the code: the JSON Schema of the configuration,
// the reference of its keys, and the pages of every ratchetctl command. It is a program of
// its own because the libraries that write pages stay out of the appliance's binary.
//
// Usage, at the top of the repository:
//
//	go run ./docs/gen          bring the files up to date
//	go run ./docs/gen -check   name the files that are not, and fail
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/ctl"
	"github.com/ratchetos/ratchet/core/ctl/gen"
	"github.com/ratchetos/ratchet/core/plugin"
	"github.com/ratchetos/ratchet/plugins/dataplane"
	dataplanectl "github.com/ratchetos/ratchet/plugins/dataplane/ctl"
	"github.com/ratchetos/ratchet/plugins/gateway"
	gatewayctl "github.com/ratchetos/ratchet/plugins/gateway/ctl"
	"github.com/ratchetos/ratchet/plugins/migration"
	migrationctl "github.com/ratchetos/ratchet/plugins/migration/ctl"
)

func main() {
	check := flag.Bool("check", false, "only compare")
	root := flag.String("root", ".", "top of the repository")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	if !check {
		return gen.Write(root, features(), commands()...)
	}
	stale, err := gen.Stale(root, features(), commands()...)
	if err != nil {
		return err
	}
	for _, path := range stale {
		fmt.Println(path)
	}
	if len(stale) > 0 {
		return fmt.Errorf("%d generated files are out of date; run: make generate", len(stale))
	}
	return nil
}

// features and commands are those of the appliance's main program.
func features() []plugin.Feature {
	return []plugin.Feature{gateway.New(), dataplane.New(), migration.New()}
}

func commands() []func(*ctl.App) *cobra.Command {
	return []func(*ctl.App) *cobra.Command{
		func(a *ctl.App) *cobra.Command { return gatewayctl.Command(a) },
		func(a *ctl.App) *cobra.Command { return dataplanectl.Command(a) },
		func(a *ctl.App) *cobra.Command { return migrationctl.Command(a) },
	}
}
