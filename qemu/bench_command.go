package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/qemu/bench"
)

func benchCommand() *cobra.Command {
	var o bench.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what the project promises and print each figure beside its goal",
		Long: `Measure what the project promises, print one line a figure and write them to build/bench.json. A goal that is not
met is printed and is no error; a figure that cannot be measured is one. How to read it: docs/howto/run-benches.md.`,
		Example: "  go run ./qemu bench --area image,core",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Cert = func() ([]byte, error) { return certificate("") }
			o.Out, o.Progress = os.Stdout, os.Stderr
			return bench.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Areas, "area", "", "comma-separated, all if empty: "+strings.Join(bench.Areas(), ", "))
	f.StringVar(&o.Series, "series", "", "folder of CSV files with other loads to try forecasts on (area schedule)")
	f.BoolVar(&o.Quick, "quick", false, "two alternations instead of nine, for development")
	f.StringVar(&o.Dir, "dir", filepath.Join("build", "bench"), "folder for what is built and booted")
	f.StringVar(&o.File, "file", filepath.Join("build", "bench.json"), "where the figures go; those of other areas in it are kept")
	return cmd
}

// delayCommand is what benches start for themselves.
func delayCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:    "delay",
		Short:  "Make the way to a TCP server longer; see bench.Delay",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return bench.Delay(to, os.Stdin, os.Stdout) },
	}
	cmd.Flags().StringVar(&to, "to", "", "host:port of the server")
	return cmd
}
