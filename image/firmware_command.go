package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/keys"
)

// pciID is a vendor and a device, which boxes compare in small letters.
var pciID = regexp.MustCompile(`^[0-9A-Fa-f]{4}:[0-9A-Fa-f]{4}$`)

func newFirmware() *cobra.Command {
	var r keys.Ring
	var models, versions []string
	var out string
	cmd := &cobra.Command{
		Use:   "firmware FILE",
		Short: "Pack the firmware of a device for ratchetctl firmware flash",
		Long: "Pack the firmware of a NIC or disk, signed with the bundle key. --model is a model's name as\n" +
			"`ratchetctl hw list` shows it, or its PCI id as vendor:device. --version is what the device reports\n" +
			"afterwards; for a device with several components, COMPONENT=VERSION for each that changes.",
		Example: "  image firmware X710-9.5.bin --model 8086:1572 --version fw.mgmt=9.50 --out x710-9.5.fw",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			image, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("pack device firmware: %w", err)
			}
			if err := develop(&r); err != nil {
				return err
			}
			for i, model := range models {
				if pciID.MatchString(model) {
					models[i] = strings.ToLower(model)
				}
			}
			m := bundle.DeviceManifest{Models: models, Versions: map[string]string{}}
			for _, v := range versions {
				component, version, named := strings.Cut(v, "=")
				if !named {
					component, version = "", v
				}
				if _, twice := m.Versions[component]; twice {
					return fmt.Errorf("pack device firmware: component %q has two versions", component)
				}
				m.Versions[component] = version
			}
			f, err := renameio.NewPendingFile(out, renameio.WithPermissions(0o644))
			if err != nil {
				return fmt.Errorf("pack device firmware: %w", err)
			}
			defer f.Cleanup() //nolint:errcheck // only what is left of a failure
			if err := builder.DeviceFirmware(f, r, m, image); err != nil {
				return err
			}
			if err := f.CloseAtomicallyReplace(); err != nil {
				return fmt.Errorf("pack device firmware: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: firmware %s for %s\n", out, m.Version(), strings.Join(models, ", "))
			return nil
		},
	}
	f := cmd.Flags()
	ringFlags(f, &r)
	f.StringArrayVar(&models, "model", nil, "model it is for, or vendor:device; may be repeated")
	f.StringArrayVar(&versions, "version", nil, "what the device reports afterwards, or COMPONENT=VERSION; may be repeated")
	f.StringVar(&out, "out", "device.fw", "file to write")
	return cmd
}
