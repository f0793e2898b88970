package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/image/builder"
	"github.com/ratchetos/ratchet/image/disk"
)

func newRescue() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "rescue UKI",
		Short: "Make the image of a rescue stick around a UKI",
		Long: "Make the image of a rescue stick around a UKI. A box whose image slots are both bad starts from it, releases\n" +
			"nothing, and offers to write the slots with the stick's image at its recovery console.",
		Example: "  image rescue build/image/full/ratchet.efi --out rescue.img\n  dd if=rescue.img of=/dev/sdX bs=1M oflag=direct",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			uki, err := builder.ReadSigned(args[0])
			if err != nil {
				return fmt.Errorf("make rescue stick: %w", err)
			}
			return disk.WriteRescue(out, uki)
		},
	}
	cmd.Flags().StringVar(&out, "out", "rescue.img", "file to write")
	return cmd
}
