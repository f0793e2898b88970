package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/config"
	"github.com/ratchetos/ratchet/core/ctl"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
	"github.com/ratchetos/ratchet/image/initramfs"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "image",
		Short:         "Build, check and describe the appliance's image",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newBuild(), newDisk(), newRescue(), newInfo(), newVerify(), newKeys(), newSign(), newAttach(), newFirmware(), newBundle(), newRelease(), newGuestAgent(), ctl.FlashCommand())
	return root
}

func newBuild() *cobra.Command {
	var o builder.Options
	var level, size int64
	var bundled bool
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build kernel, initramfs, UKI and disk image into build/image/FLAVOUR",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Out == "" {
				o.Out = filepath.Join("build", "image", o.Flavour)
			}
			for _, path := range []string{o.Config, o.DiskConfig} {
				if _, err := configuration(path); err != nil {
					return err
				}
			}
			o.Level, o.DiskSize, o.Progress = initramfs.Level(level), size, cmd.OutOrStdout()
			if bundled {
				o.Bundle = &builder.BundleOptions{}
			}
			m, err := o.Build(cmd.Context())
			if err != nil {
				return err
			}
			printBuilt(cmd.OutOrStdout(), o.Out, m)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Flavour, "flavour", "full", "kernel: full (hardware) or cloud (fast tests)")
	f.StringVar(&o.Version, "version", "", "version of the image (default: git describe)")
	f.StringVar(&o.Out, "out", "", "output folder (default build/image/FLAVOUR)")
	f.StringVar(&o.Config, "config", "", "default configuration to bake into the image")
	f.StringVar(&o.DiskConfig, "disk-config", "", "first configuration to write to the disk's LEDGER")
	f.Int64Var(&size, "size", disk.DefaultSize, "size of the disk image in bytes")
	ringFlags(f, &o.Keys)
	f.BoolVar(&bundled, "bundle", false, "pack an update beside the image, too")
	f.BoolVar(&o.DevelopmentKeys, "development-keys", false, "let development keys sign a release, for a rehearsal")
	f.UintVar(&o.SecurityVersion, "security-version", 0, "security version, 0 to 63: boxes that moved on to a later one refuse the image")
	f.StringVar(&o.QuarantineNIC, "quarantine-nic", "", quarantineUsage)
	f.BoolVar(&o.Release, "release", false, "not a development image: it will not provision a box by itself")
	f.Int64Var(&level, "level", int64(initramfs.DefaultLevel), "zstd level of the initramfs, 1 to 4")
	f.StringVar(&o.Binary, "binary", "", "use this compiled appliance")
	return cmd
}

const quarantineUsage = "place of the NIC that an isolated box keeps for its recovery, as pci:0000:00:03.0 (default none)"

func printBuilt(w io.Writer, dir string, m builder.Manifest) {
	kind := "development"
	if !m.Development {
		kind = "release"
	}
	fmt.Fprintf(w, "image: %s (%s %s, %s) in %s, %.1f s\n", filepath.Join(dir, builder.SignedFile), m.Version, m.Flavour, kind, dir, m.Seconds)
	fmt.Fprintf(w, "image: UKI %.2f MiB, binary %.1f MiB, initramfs %.2f MiB (%.1f MiB raw)\n",
		mib(m.Sizes.UKI), mib(m.Sizes.Binary), mib(m.Sizes.Initramfs), mib(m.Sizes.InitramfsRaw))
	fmt.Fprintf(w, "image: pcr11 %s\n", m.PCR11.SHA256)
	if !m.Kernel.Locked {
		fmt.Fprintf(w, "\nWARNING: %s\n\n", m.Kernel.Warning)
	}
}

func mib(n int) float64 { return float64(n) / (1 << 20) }

func newDisk() *cobra.Command {
	var out, first string
	var size int64
	cmd := &cobra.Command{
		Use:   "disk UKI",
		Short: "Write a factory-new disk image around a UKI",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o := disk.Options{Size: size}
			var err error
			if o.UKI, err = builder.ReadSigned(args[0]); err != nil {
				return fmt.Errorf("make disk: %w", err)
			}
			if o.Config, err = configuration(first); err != nil {
				return err
			}
			return disk.Write(out, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "disk.img", "file to write")
	f.StringVar(&first, "config", "", "first configuration to write to the LEDGER")
	f.Int64Var(&size, "size", disk.DefaultSize, "size of the disk image in bytes")
	return cmd
}

// configuration reads what a box is to start with; "" is none. What plugins have against their sections only
// `ratchetctl config check` knows.
func configuration(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	_, _, found := config.Parse(path, data)
	return data, found.Err()
}

func newInfo() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "info FILE",
		Short: "Describe a UKI, a disk image (plain or zstd) or an update",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := builder.Inspect(args[0])
			if err != nil {
				return err
			}
			switch output {
			case "json":
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(r)
			case "table":
				printReport(cmd.OutOrStdout(), r)
				return nil
			}
			return fmt.Errorf("no output format %q; choose table or json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

func printReport(w io.Writer, r *builder.Report) {
	for _, p := range r.Partitions {
		fmt.Fprintf(w, "partition %-8s %6.0f MiB at %4.0f MiB  %s\n", p.Name, float64(p.Size)/(1<<20), float64(p.Start)/(1<<20), p.GUID)
	}
	if b := r.Bundle; b != nil {
		m := b.Manifest
		fmt.Fprintf(w, "update    %s for %s %s, security version %d, revokes %v, development %v\n", m.Version, m.Arch, m.Flavour, m.SecurityVersion, m.Revokes, m.Development)
		for _, d := range m.Firmware {
			fmt.Fprintf(w, "known     %s %s with %s\n", d.Kind, d.Model, d.Version)
		}
	}
	for _, i := range r.Images {
		if i.Slot != "" {
			fmt.Fprintf(w, "\nslot %s\n", i.Slot)
		}
		fmt.Fprintf(w, "release   %s, %.2f MiB\nkernel    %s\ncmdline   %s\nstub      systemd %d\n", i.Release, mib(i.Size), i.Kernel, i.Cmdline, i.Stub)
		fmt.Fprintf(w, "pcr11     %s\ndigest    %s\nsigned    %v\n", i.PCR11, i.Digest, i.Signed)
		fmt.Fprintf(w, "policy    version %s, security version %d, tpm %s, development %v\n",
			i.Policy.Version, i.Policy.SecurityVersion, i.Policy.TPM, i.Policy.Development)
		for _, s := range i.Sections {
			fmt.Fprintf(w, "section   %-9s %10d\n", s.Name, s.Size)
		}
	}
}
