package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ratchetos/ratchet/qemu/box"
	"github.com/ratchetos/ratchet/qemu/demo"
)

func runCommand() *cobra.Command {
	o := demo.Options{Out: os.Stdout}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Build the image, boot it and do the main job on it",
		Long: `Build the image, boot it under UEFI with Secure Boot and a TPM, and do the main job end to end: write through a cached
volume over NBD, wait until all of it is in the object store, restart the plugin, read back and compare.
With a terminal it then stays on the machine's console; without one it powers off.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Cert = func() ([]byte, error) { return certificate("") }
			if term.IsTerminal(int(os.Stdin.Fd())) {
				o.Stay = stay
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Flavour, "flavour", "full", "kernel: full (hardware) or cloud (fast tests)")
	f.StringVar(&o.Version, "version", "", "version of the image (default: git describe)")
	f.StringVar(&o.Dir, "dir", filepath.Join("build", "run"), "folder of the machine, made anew")
	f.IntVar(&o.MiB, "mib", 64, "how much to write through the volume, in MiB")
	return cmd
}

// stay hands the terminal to the machine until it ends.
func stay(ctx context.Context, m *box.Box, tap *demo.Tap) error {
	restore, err := rawTerminal()
	if err != nil {
		return err
	}
	defer restore()
	fmt.Fprint(os.Stdout, "this is the machine's console; Control-A x ends the machine\r\n")
	tap.Open(os.Stdout)
	go typed(m, os.Stdin)
	_, err = m.Wait(ctx)
	return err
}
