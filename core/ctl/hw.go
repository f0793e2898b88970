package ctl

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

func (a *App) hwCommand() *cobra.Command {
	return group("hw", "List, admit, claim and release NICs and disks", "", "  ratchetctl hw list\n  ratchetctl hw admit mac:52:54:00:72:61:02\n  ratchetctl hw claim serial:WD-1234 --erase",
		a.hwList(), a.hwAdmit(), a.hwClaim(), a.hwRelease())
}

func (a *App) hwList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List NICs and disks, who has them, and why not",
		Example: "  ratchetctl hw list\n  ratchetctl hw list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Hardware.List(cmd.Context(), &apipb.ListHardwareRequest{})
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) {
				Row(w, "ID", "KIND", "MODEL", "SIZE", "DRIVER", "NODE", "OWNER", "STATE")
				for _, d := range reply.GetDevices() {
					size := ""
					if d.GetSize() > 0 {
						size = Bytes(d.GetSize())
					}
					Row(w, d.GetId(), d.GetKind(), d.GetModel(), size, d.GetDriver(), d.GetNode(), d.GetOwner(), deviceState(d))
				}
			})
		},
	}
}

// completeDevice completes the id of a device.
func (a *App) completeDevice(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault // a file, where the command takes one
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	c, err := a.Client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	reply, err := c.Hardware.List(ctx, &apipb.ListHardwareRequest{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var ids []string
	for _, d := range reply.GetDevices() {
		ids = append(ids, d.GetId()+"\t"+d.GetModel())
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}

// deviceState is the one thing that most stands in the way of using a device.
func deviceState(d *apipb.Device) string {
	switch v := d.GetVerdict(); {
	case v.GetCode() == "missing":
		return "missing: " + v.GetReason()
	case !d.GetSupported():
		return "unsupported: " + d.GetWhy()
	case released(v) != nil:
		return v.GetDecision() + ": " + v.GetReason()
	case d.GetContent() != "":
		return "holds " + d.GetContent() + "; to use it: ratchetctl hw claim " + d.GetId() + " --erase"
	case d.GetWhy() != "":
		return d.GetWhy()
	}
	return "ok"
}

func (a *App) hwAdmit() *cobra.Command {
	return &cobra.Command{
		Use: "admit DEVICE", Short: "Let a new device in at the next boot",
		Long: "Let a device in that is new to this box, named by its id or place as \"hw list\" shows it.\n\n" +
			"The device is read back in quarantine and admitted with the firmware it has now, in an attempt\n" +
			"of the counter. The next boot reads it back once more and releases it.",
		Example: "  ratchetctl hw admit mac:52:54:00:72:61:02\n  ratchetctl power reboot",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Admission.Admit(cmd.Context(), &apipb.AdmitRequest{Selector: args[0]})
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) {
				fmt.Fprintf(w, "attempt %d admits %s with firmware %s; the next boot releases it: ratchetctl power reboot\n", reply.GetAttempt(), reply.GetId(), reply.GetFirmware())
			})
		},
	}
}

func (a *App) hwClaim() *cobra.Command {
	var erase bool
	cmd := &cobra.Command{
		Use: "claim DEVICE", Short: "Take a device into use",
		Long: "Take a device into use that was released or whose content stands in the way, named by its id\n" +
			"or place as \"hw list\" shows it.\n\n" +
			"A disk with somebody's partition table, filesystem or volume on it is never written unless\n" +
			"--erase says that its content may be destroyed. That includes volumes of this box, all that are on\n" +
			"the disk, with what they have not uploaded.",
		Example: "  ratchetctl hw claim mac:52:54:00:72:61:02\n  ratchetctl hw claim serial:ratchet-data --erase",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Hardware.Claim(cmd.Context(), &apipb.ClaimRequest{Selector: args[0], Erase: erase})
			if err != nil {
				return err
			}
			return a.show(reply.GetDevice(), func(w io.Writer) { Row(w, "claimed", reply.GetDevice().GetId()) })
		},
	}
	cmd.Flags().BoolVar(&erase, "erase", false, "destroy what the disk holds")
	return cmd
}

func (a *App) hwRelease() *cobra.Command {
	return &cobra.Command{
		Use: "release DEVICE", Short: "Take a device out of use",
		Example: "  ratchetctl hw release serial:ratchet-data",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if _, err := c.Hardware.Release(cmd.Context(), &apipb.ReleaseRequest{Selector: args[0]}); err != nil {
				return err
			}
			a.say("released %s", args[0])
			return nil
		},
	}
}
