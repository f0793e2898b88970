package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/core/api/apipb"
)

func (a *App) updateCommand() *cobra.Command {
	return group("update", "Replace the image of the box",
		"Replace the image of the box. There are two slots: the one that does not run is written, tried at the\n"+
			"next boot, and kept when it proves healthy; else the firmware goes back by itself. What is written to a\n"+
			"slot is an attempt of the counter, and the next boot reads the slot back.",
		"  ratchetctl update apply ratchet-1.2.bundle --reboot\n  ratchetctl update apply https://updates.example.net/ratchet-1.2.bundle\n  ratchetctl update status",
		a.updateApply(), a.updateStatus(), a.updateRollback(), a.updateSettle())
}

func (a *App) updateApply() *cobra.Command {
	var reboot bool
	cmd := &cobra.Command{
		Use: "apply FILE|URL", Short: "Install a bundle into the slot that does not run",
		Long: "Install a signed bundle into the slot that does not run. A FILE is uploaded; a URL (http or https)\n" +
			"is downloaded by the box itself, which goes on where it was cut off. A bundle that is damaged, for\n" +
			"another box, signed by somebody else or too old is refused before anything is changed or counted.",
		Example: "  ratchetctl update apply ratchet-1.2.bundle --reboot\n  ratchetctl update apply https://updates.example.net/ratchet-1.2.bundle",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			c, err := a.Client()
			if err != nil {
				return err
			}
			r := &apipb.ApplyUpdateRequest{Reboot: reboot}
			if strings.HasPrefix(args[0], "http://") || strings.HasPrefix(args[0], "https://") {
				r.Url = args[0]
			} else if err := a.uploadBundle(ctx, args[0]); err != nil {
				return err
			}
			stream, err := c.Update.Apply(ctx, r)
			if err != nil {
				return err
			}
			return a.follow(stream, func(r *apipb.UpdateResult) string {
				next := "it is tried at the next boot: ratchetctl power reboot"
				if r.GetReboot() {
					next = "the box restarts into it now"
				}
				return installed(r) + "; " + next
			})
		},
	}
	cmd.Flags().BoolVar(&reboot, "reboot", false, "restart into it when it is written")
	return cmd
}

// installed says what a slot holds now and what that took.
func installed(r *apipb.UpdateResult) string {
	if r.GetAttempt() == 0 {
		return fmt.Sprintf("slot %s holds image %s already", r.GetSlot(), r.GetVersion())
	}
	took := (time.Duration(r.GetWriteMs()+r.GetReadMs()) * time.Millisecond).Round(100 * time.Millisecond)
	return fmt.Sprintf("attempt %d: slot %s holds image %s, %s written and read back in %s", r.GetAttempt(), r.GetSlot(), r.GetVersion(), Bytes(r.GetBytes()), took)
}

// uploadBundle stages a file piece by piece.
func (a *App) uploadBundle(ctx context.Context, path string) error {
	c, err := a.Client()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	show := a.progress()
	buffer := make([]byte, piece)
	for at := uint64(0); ; {
		n, err := io.ReadFull(f, buffer)
		if n > 0 || at == 0 {
			reply, err := c.Update.Stage(ctx, &apipb.StageUpdateRequest{Offset: at, Data: buffer[:n]})
			if err != nil {
				return err
			}
			at = reply.GetSize()
			show("upload", at, uint64(st.Size()))
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
}

// progress prints one line for each tenth of a phase.
func (a *App) progress() func(phase string, done, total uint64) {
	last, told := "", uint64(0)
	return func(phase string, done, total uint64) {
		if total == 0 {
			if phase != last {
				a.say("%s", phase)
			}
			last, told = phase, 0
			return
		}
		now := done * 100 / total
		if phase == last && now/10 == told/10 {
			return
		}
		last, told = phase, now
		a.say("%s %d %%", phase, now)
	}
}

// follow shows the progress of a stream and its result.
func (a *App) follow(stream *connect.ServerStreamForClient[apipb.UpdateProgress], done func(*apipb.UpdateResult) string) error {
	defer stream.Close()
	var result *apipb.UpdateResult
	show := a.progress()
	for stream.Receive() {
		p := stream.Msg()
		if result = p.GetResult(); result == nil {
			show(p.GetPhase(), p.GetDone(), p.GetTotal())
		}
	}
	if err := stream.Err(); err != nil {
		return err
	}
	if result == nil {
		return errors.New("the box ended the update without a result; see: ratchetctl update status")
	}
	return a.show(result, func(w io.Writer) { fmt.Fprintln(w, done(result)) })
}

func (a *App) updateStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the slots, what boots next and what still has to prove itself",
		Example: "  ratchetctl update status\n  ratchetctl update status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Update.Status(cmd.Context(), &apipb.UpdateStatusRequest{})
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) { updateTable(w, reply) })
		},
	}
}

func updateTable(w io.Writer, r *apipb.UpdateStatusReply) {
	state := "not healthy yet"
	if r.GetHealthy() {
		state = "healthy"
	}
	if r.GetBoots() > 1 {
		state += fmt.Sprintf(", boot %d since the last healthy one", r.GetBoots())
	}
	fmt.Fprintf(w, "slot %s runs image %s, %s\n", dash(r.GetRunning()), r.GetVersion(), state)
	fmt.Fprintf(w, "security version %d, images below %d do not run here any more\n", r.GetSecurityVersion(), r.GetFloor())
	if r.GetBlocked() != "" {
		fmt.Fprintln(w, clean(r.GetBlocked()))
	}
	if r.GetNext() != "" {
		fmt.Fprintf(w, "the next boot tries slot %s\n", r.GetNext())
	}
	if ms := r.GetSettlesInMs(); ms > 0 {
		fmt.Fprintf(w, "the other slot gets this image after %s more; at once with: ratchetctl update settle\n", ago(time.Duration(ms)*time.Millisecond))
	}
	if p := r.GetLast().GetProblem(); p != "" {
		fmt.Fprintln(w, "the last update failed:", clean(p))
	}
	if len(r.GetSlots()) == 0 {
		return
	}
	fmt.Fprintln(w)
	Row(w, "SLOT", "IMAGE", "SECURITY VERSION", "STATE", "WHY")
	for _, s := range r.GetSlots() {
		Row(w, s.GetName(), short(s.GetDigest()), s.GetSecurityVersion(), slotState(s, r), s.GetReason())
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// slotState is what a slot is for.
func slotState(s *apipb.ImageSlot, r *apipb.UpdateStatusReply) string {
	var words []string
	switch {
	case s.GetDecision() != "released":
		words = append(words, "bad")
	case s.GetName() == r.GetRunning():
		words = append(words, "runs")
	}
	if s.GetName() == r.GetFirst() {
		words = append(words, "first")
	}
	if s.GetName() == r.GetNext() {
		words = append(words, "next")
	}
	if n := s.GetAttempt(); n > 0 {
		words = append(words, fmt.Sprintf("attempt %d open", n))
	}
	return strings.Join(words, ", ")
}

func (a *App) updateRollback() *cobra.Command {
	var reboot bool
	cmd := &cobra.Command{
		Use: "rollback", Short: "Go back to the image in the other slot",
		Long: "Have the next boot try the image in the other slot; it stays when it proves healthy. There is no way\n" +
			"back to an image that is older than the security version of the box.",
		Example: "  ratchetctl update rollback --reboot",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Update.Rollback(cmd.Context(), &apipb.RollbackUpdateRequest{Reboot: reboot})
			if err != nil {
				return err
			}
			next := "ratchetctl power reboot"
			if reboot {
				next = "the box restarts now"
			}
			return a.show(reply, func(w io.Writer) {
				fmt.Fprintf(w, "the next boot tries slot %s; %s\n", reply.GetSlot(), next)
			})
		},
	}
	cmd.Flags().BoolVar(&reboot, "reboot", false, "restart at once")
	return cmd
}

func (a *App) updateSettle() *cobra.Command {
	return &cobra.Command{
		Use: "settle", Short: "Give the other slot the running image too, for good",
		Long: "Copy the running image to the other slot and raise the security version of the box to its own: no\n" +
			"older image runs here after that. It happens by itself once an update has run for a day, and at once for\n" +
			"one that revokes the release before.",
		Example: "  ratchetctl update settle",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			stream, err := c.Update.Settle(cmd.Context(), &apipb.SettleUpdateRequest{})
			if err != nil {
				return err
			}
			return a.follow(stream, installed)
		},
	}
}
