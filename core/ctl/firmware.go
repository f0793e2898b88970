package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
	"github.com/ratchetos/ratchet/core/api/client"
)

func (a *App) firmwareCommand() *cobra.Command {
	return group("firmware", "Look at and replace the firmware of devices",
		"Look at and replace the firmware of NICs and disks. A flash takes a package that the vendor of the\n"+
			"image signed, and is an attempt of the counter: the next boot reads the device back before it is used.",
		"  ratchetctl firmware list\n  ratchetctl firmware flash serial:S4EVNX0R x.fw\n  ratchetctl firmware verify",
		a.firmwareList(), a.firmwareFlash(), a.firmwareVerify(), a.firmwareRecover())
}

func (a *App) firmwareList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List devices whose firmware can be read, and what they run",
		Long: "List devices whose firmware can be read, and what they run. CHECKED BY is what the verdict compares:\n" +
			"a digest of the firmware itself, or the version that the device reports.",
		Example: "  ratchetctl firmware list\n  ratchetctl firmware list -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Firmware.List(cmd.Context(), &apipb.ListFirmwareRequest{})
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) {
				Row(w, "ID", "MODEL", "RUNS", "SLOT", "NEXT BOOT", "CHECKED BY", "STATE")
				for _, d := range reply.GetDevices() {
					Row(w, d.GetId(), d.GetModel(), d.GetRunning(), d.GetSlot(), d.GetNext(), d.GetStrength(), firmwareState(d))
				}
			})
		},
	}
}

// firmwareState is what matters most about a device's firmware.
func firmwareState(d *apipb.FirmwareDevice) string {
	switch {
	case d.GetProblem() != "":
		return d.GetProblem()
	case d.GetNext() != "":
		return fmt.Sprintf("attempt %d is done at the next boot: ratchetctl power reboot", d.GetAttempt())
	case d.GetAttempt() != 0:
		return fmt.Sprintf("attempt %d is open until the next boot", d.GetAttempt())
	case d.GetExpected() == "":
		return "not admitted"
	}
	return "ok"
}

func (a *App) firmwareFlash() *cobra.Command {
	return &cobra.Command{
		Use: "flash DEVICE FILE", Short: "Flash a firmware package to a device",
		Long: "Flash a signed firmware package to a device. The package is verified and compared with the device\n" +
			"first; a wrong one changes nothing and is not counted.",
		Example: "  ratchetctl firmware flash serial:S4EVNX0R x.fw",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.flash(cmd.Context(), &apipb.FlashFirmwareRequest{Selector: args[0], Staged: true}, args[1])
		},
	}
}

func (a *App) firmwareRecover() *cobra.Command {
	return &cobra.Command{
		Use: "recover DEVICE [FILE]", Short: "Bring a device back whose firmware was changed or is half written",
		Long: "Bring a device back that the verdict keeps isolated because its firmware is not what it should be:\n" +
			"to the package, or without one to the firmware that the ledger knows, if a slot of the device still\n" +
			"holds it. The next boot releases the device.",
		Example: "  ratchetctl firmware recover serial:S4EVNX0R\n  ratchetctl firmware recover serial:S4EVNX0R x.fw",
		Args:    cobra.RangeArgs(1, 2), ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &apipb.FlashFirmwareRequest{Selector: args[0], Recover: true, Staged: len(args) == 2}
			return a.flash(cmd.Context(), r, strings.Join(args[1:], ""))
		},
	}
}

func (a *App) flash(ctx context.Context, r *apipb.FlashFirmwareRequest, path string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	if r.GetStaged() {
		if err := stage(ctx, c, path); err != nil {
			return err
		}
	}
	stream, err := c.Firmware.Flash(ctx, r)
	if err != nil {
		return err
	}
	defer stream.Close()
	var result *apipb.FirmwareResult
	percent := -1
	for stream.Receive() {
		p := stream.Msg()
		if result = p.GetResult(); result == nil && p.GetTotal() > 0 {
			if now := int(p.GetDone() * 100 / p.GetTotal()); now/10 != percent/10 || percent < 0 {
				percent = now
				a.say("%s %d %%", p.GetPhase(), now)
			}
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if result == nil {
		return errors.New("the box ended the update without a result; see: ratchetctl firmware list")
	}
	return a.show(result, func(w io.Writer) { fmt.Fprintln(w, flashed(result)) })
}

// flashed says how an update ended and what is next.
func flashed(r *apipb.FirmwareResult) string {
	switch r.GetState() {
	case "unchanged":
		return fmt.Sprintf("%s runs %s already; nothing was done", r.GetDevice(), r.GetReads())
	case "at-reset":
		return fmt.Sprintf("attempt %d: %s takes %s at the next boot: ratchetctl power reboot", r.GetAttempt(), r.GetDevice(), r.GetTo())
	}
	return fmt.Sprintf("attempt %d: %s reads back as %s; the next boot closes it", r.GetAttempt(), r.GetDevice(), r.GetReads())
}

// piece is how much of a package goes in one call; the server takes 2 MiB.
const piece = 1 << 20

// stage uploads a package.
func stage(ctx context.Context, c *client.Client, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buffer := make([]byte, piece)
	for at := uint64(0); ; {
		n, err := io.ReadFull(f, buffer)
		if n > 0 || at == 0 {
			reply, err := c.Firmware.Stage(ctx, &apipb.StageFirmwareRequest{Offset: at, Data: buffer[:n]})
			if err != nil {
				return err
			}
			at = reply.GetSize()
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
}

func (a *App) firmwareVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify [DEVICE]", Short: "Read firmware back and hold it against the ledger",
		Long: "Read the firmware of a device back, or of all, and hold it against the ledger as the next boot will.\n\n" +
			"The exit code is 4 when a device would not be released.",
		Example: "  ratchetctl firmware verify\n  ratchetctl firmware verify serial:S4EVNX0R",
		Args:    cobra.MaximumNArgs(1), ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Firmware.Verify(cmd.Context(), &apipb.VerifyFirmwareRequest{Selector: strings.Join(args, "")})
			if err != nil {
				return err
			}
			err = a.show(reply, func(w io.Writer) {
				Row(w, "ID", "READS", "VERDICT", "WHY")
				for _, d := range reply.GetDevices() {
					Row(w, d.GetId(), d.GetReads(), d.GetVerdict().GetDecision(), d.GetVerdict().GetReason())
				}
			})
			for _, d := range reply.GetDevices() {
				err = errors.Join(err, released(d.GetVerdict()))
			}
			return err
		},
	}
}
