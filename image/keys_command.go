package main

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/image/keys"
)

func newKeys() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, show and rotate the keys that images are signed with",
	}
	cmd.AddCommand(newKeysInit(), newKeysList(), newKeysUse(), newKeysRotate(), newKeysDrop())
	return cmd
}

// vendorFlag is the name in certificates.
func vendorFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", "Ratchet", "your name, for certificates")
}

func newKeysInit() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a set of keys of your own",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := keys.Create(args[0], name)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "keys made in %s; build with --keys %[1]s.\nMove policy-spare.key and pk.key to a safe now: only their public halves are needed here.\n", r.Dir)
			return nil
		},
	}
	vendorFlag(cmd, &name)
	return cmd
}

// ring opens the folder that was named, or the development keys.
func ring(args []string) (keys.Ring, error) {
	if len(args) > 0 {
		r := keys.Ring{Dir: args[0]}
		if _, err := os.Stat(r.Dir); err != nil {
			return r, fmt.Errorf("open keys: %w", err)
		}
		return r, nil
	}
	r, _, err := keys.Development("")
	return r, err
}

func newKeysList() *cobra.Command {
	return &cobra.Command{
		Use:   "list [DIR]",
		Short: "Show the keys of a folder (default: the development keys)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := ring(args)
			if err != nil {
				return err
			}
			kind := "own keys"
			if r.Development() {
				kind = "DEVELOPMENT keys, not for releases"
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "%s: %s\n", r.Dir, kind)
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			defer w.Flush()
			fmt.Fprintln(w, "KEY\tALGORITHM\tSHA-256 OF PUBLIC KEY\tPRIVATE HALF")
			for _, e := range r.List() {
				if e.Err != nil {
					fmt.Fprintf(w, "%s\t%s\t-\t%v\n", e.Role, e.Role.Algorithm(), e.Err)
					continue
				}
				der, err := x509.MarshalPKIXPublicKey(e.Public)
				if err != nil {
					return fmt.Errorf("show key %s: %w", e.Role, err)
				}
				fmt.Fprintf(w, "%s\t%s\t%x\t%s\n", e.Role, e.Role.Algorithm(), sha256.Sum256(der), e.Private)
			}
			return nil
		},
	}
}

func newKeysUse() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "use DIR ROLE URI",
		Short: "Record that a key is on a token (pkcs11: URI)",
		Args:  cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := keys.ParseRole(args[1])
			if err != nil {
				return err
			}
			if !strings.HasPrefix(args[2], "pkcs11:") {
				return errors.New("use key: the URI does not begin with pkcs11:; copy a key file into the folder instead")
			}
			if err := (keys.Ring{Dir: args[0]}).Adopt(role, args[2], name); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: the %s key is the one on the token\n", args[0], role)
			return nil
		},
	}
	vendorFlag(cmd, &name)
	return cmd
}

func newKeysRotate() *cobra.Command {
	var name, dir, uri string
	cmd := &cobra.Command{
		Use:   "rotate ROLE",
		Short: "Replace a key: policy by its spare, others by a new one; the old one stays trusted",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := keys.ParseRole(args[0])
			if err != nil {
				return err
			}
			r, err := ring(named(dir))
			if err != nil {
				return err
			}
			if err := r.Rotate(role, name, uri); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%[1]s: %[2]s rotated; the old key is %[2]s-old and stays trusted until `image keys drop %[2]s`\n", r.Dir, role)
			return nil
		},
	}
	vendorFlag(cmd, &name)
	cmd.Flags().StringVar(&dir, "keys", "", "folder of the keys (default: the development keys)")
	cmd.Flags().StringVar(&uri, "uri", "", "pkcs11: URI of the new key (the new spare, for policy); default: make one")
	return cmd
}

func newKeysDrop() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "drop ROLE",
		Short: "Stop trusting the key that was rotated away",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			role, err := keys.ParseRole(args[0])
			if err != nil {
				return err
			}
			r, err := ring(named(dir))
			if err != nil {
				return err
			}
			if err := r.Drop(role); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: the old %s key is not trusted by images built from now on\n", r.Dir, role)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "keys", "", "folder of the keys (default: the development keys)")
	return cmd
}

func named(dir string) []string {
	if dir == "" {
		return nil
	}
	return []string{dir}
}

// maxSignature bounds what is read as a signature: RSA-2048 in base64 is well below.
const maxSignature = 4096

func newAttach() *cobra.Command {
	return &cobra.Command{
		Use:   "attach DIR SIGNATURE...",
		Short: "Hand in signatures that --detach DIR asked for",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args[1:] {
				info, err := os.Stat(path)
				if err != nil {
					return fmt.Errorf("attach signature: %w", err)
				}
				if info.Size() > maxSignature {
					return fmt.Errorf("attach signature: %s is too long for one", path)
				}
				sig, err := os.ReadFile(path)
				if err != nil {
					return fmt.Errorf("attach signature: %w", err)
				}
				q, err := keys.Attach(args[0], sig)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: signature of the %s key over %.16s… taken\n", path, q.Role, q.Digest)
			}
			return nil
		},
	}
}
