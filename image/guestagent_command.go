package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/guestagent"
)

func newGuestAgent() *cobra.Command {
	var out, version string
	cmd := &cobra.Command{
		Use:   "guest-agent",
		Short: "Build the agent that VMs install for migration: a program and a Debian package",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := buildGuestAgent(cmd, version)
			if err != nil {
				return err
			}
			program, deb, err := p.Write(out)
			if err != nil {
				return err
			}
			for _, path := range []string{program, deb} {
				info, err := os.Stat(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%10d  %s\n", info.Size(), path)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", filepath.Join("build", "guest-agent"), "folder to write")
	cmd.Flags().StringVar(&version, "version", "", "version of the package (default: git describe)")
	return cmd
}

func buildGuestAgent(cmd *cobra.Command, version string) (*guestagent.Package, error) {
	src, err := builder.FindSource(cmd.Context())
	if err != nil {
		return nil, err
	}
	if version == "" {
		version = src.Version
	}
	return guestagent.Build(cmd.Context(), guestagent.Options{Root: src.Root, Version: version, Epoch: src.Epoch})
}
