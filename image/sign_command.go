package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/keys"
)

func newSign() *cobra.Command {
	var r keys.Ring
	var out string
	cmd := &cobra.Command{
		Use:   "sign UNSIGNED",
		Short: "Sign a UKI: its TPM policy, then the whole for Secure Boot",
		Long: "Sign an unsigned UKI (ratchet.unsigned.efi of a build with the same keys). With --detach DIR what\n" +
			"is to be signed is written there for every key whose private half is not here; hand each signature\n" +
			"in with `image attach` and run the command again. There are two, one after the other: the second is\n" +
			"over a file that holds the first.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			unsigned, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("sign image: %w", err)
			}
			if err := develop(&r); err != nil {
				return err
			}
			signed, err := builder.Sign(r, unsigned)
			if err != nil {
				return err
			}
			if err := renameio.WriteFile(out, signed, 0o644); err != nil {
				return fmt.Errorf("sign image: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: signed\n", out)
			return nil
		},
	}
	ringFlags(cmd.Flags(), &r)
	cmd.Flags().StringVar(&out, "out", builder.SignedFile, "file to write")
	return cmd
}

func newBundle() *cobra.Command {
	var r keys.Ring
	var o builder.BundleOptions
	var out, bill string
	cmd := &cobra.Command{
		Use:   "bundle UKI",
		Short: "Pack a signed UKI into an update that boxes take",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			signed, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("make bundle: %w", err)
			}
			path := bill
			if path == "" {
				path = filepath.Join(filepath.Dir(args[0]), builder.SBOMFile)
			}
			sbom, err := os.ReadFile(path)
			if err != nil && (bill != "" || !errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("make bundle: %w", err)
			}
			if err := develop(&r); err != nil {
				return err
			}
			b, err := builder.Bundle(r, signed, sbom, o)
			if err != nil {
				return err
			}
			if err := renameio.WriteFile(out, b, 0o644); err != nil {
				return fmt.Errorf("make bundle: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %.2f MiB\n", out, mib(len(b)))
			return nil
		},
	}
	f := cmd.Flags()
	ringFlags(f, &r)
	f.StringVar(&out, "out", builder.BundleFile, "file to write")
	f.StringVar(&bill, "sbom", "", "SPDX document to pack (default: the one beside UKI)")
	f.BoolVar(&o.Revokes, "revokes", false, "boxes replace both slots at once: the release before must not run any more")
	f.Var(knownGood{&o.KnownGood}, "known-good", knownGoodUsage)
	f.Uint64Var(&o.MinMemory, "min-memory", 0, "least memory of a box in bytes")
	return cmd
}

// develop falls back to the development keys.
func develop(r *keys.Ring) error {
	if r.Dir != "" {
		return nil
	}
	d, _, err := keys.Development("")
	r.Dir = d.Dir
	return err
}
