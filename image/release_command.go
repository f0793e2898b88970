package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/release"
)

func newRelease() *cobra.Command {
	var o release.Options
	var dirty bool
	cmd := &cobra.Command{
		Use:   "release VERSION",
		Short: "Build, sign and check everything that is published of a version",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, err := builder.FindSource(cmd.Context())
			if err != nil {
				return err
			}
			if strings.HasSuffix(src.Version, "-dirty") && !dirty {
				return errors.New("make release: the tree has changes that are not committed, so nobody could build the same; commit them (or rehearse with --allow-dirty)")
			}
			changelog, err := os.ReadFile(filepath.Join(src.Root, "CHANGELOG.md"))
			if err != nil {
				return fmt.Errorf("make release: %w", err)
			}
			o.Version, o.Changelog = args[0], string(changelog)
			o.Build.Source, o.Build.Progress = src, cmd.OutOrStdout()
			agent, err := buildGuestAgent(cmd, args[0])
			if err != nil {
				return err
			}
			o.Others = map[string][]byte{agent.DebName: agent.Deb}
			names, err := release.Make(cmd.Context(), o)
			if err != nil {
				return err
			}
			for _, name := range names {
				info, err := os.Stat(filepath.Join(o.Out, name))
				if err != nil {
					return fmt.Errorf("make release: %w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%10d  %s\n", info.Size(), filepath.Join(o.Out, name))
			}
			return nil
		},
	}
	f := cmd.Flags()
	ringFlags(f, &o.Build.Keys)
	f.StringVar(&o.Out, "out", filepath.Join("build", "release"), "folder to write, replaced as a whole")
	f.StringVar(&o.Build.Flavour, "flavour", "full", "kernel: full (hardware) or cloud (fast tests)")
	f.UintVar(&o.Build.SecurityVersion, "security-version", 0, "raised by a release that closes a hole, at most 63")
	f.StringVar(&o.Build.QuarantineNIC, "quarantine-nic", "", quarantineUsage)
	f.BoolVar(&o.Update.Revokes, "revokes", false, "boxes replace both slots at once: the release before must not run any more")
	f.Var(knownGood{&o.Update.KnownGood}, "known-good", knownGoodUsage)
	f.BoolVar(&o.Build.DevelopmentKeys, "development-keys", false, "sign with development keys, for a rehearsal")
	f.BoolVar(&dirty, "allow-dirty", false, "build a tree with changes that are not committed, for a rehearsal")
	return cmd
}
