package ctl

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ratchetos/ratchet/boot/request"
	"github.com/ratchetos/ratchet/core/api/apipb"
)

func (a *App) recoveryCommand() *cobra.Command {
	return group("recovery", "Leave word for the next boot: the recovery console, or a signed request",
		"Leave word for the next boot. Only init, which runs before everything else, can make an isolated box or\n"+
			"device trusted again: at its recovery console on the serial port, or because the owner has signed for it.",
		"  ratchetctl recovery show\n  ratchetctl recovery enter --reboot\n"+
			"  ratchetctl recovery sign recover mac:52:54:00:72:61:02 --key owner.key | ratchetctl recovery request -",
		a.recoveryShow(), a.recoveryEnter(), a.recoverySign(), a.recoveryRequest())
}

func (a *App) recoveryShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show what the next boot is asked to do, and what became of the last request",
		Example: "  ratchetctl recovery show\n  ratchetctl recovery show -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := a.recovery(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) { recoveryTable(w, reply) })
		},
	}
}

func recoveryTable(w io.Writer, r *apipb.ShowRecoveryReply) {
	if r.GetBox() == "" {
		fmt.Fprintln(w, "no TPM names this box, so nothing can be signed for it")
		return
	}
	fmt.Fprintf(w, "a request has to name: --box %s --counter %d\n", r.GetBox(), r.GetCounter())
	fmt.Fprintf(w, "owner keys   %s\n", or(strings.Join(r.GetOwners(), " "), "none: this image takes no requests"))
	next := "starts as usual"
	if r.GetEntering() {
		next = "stops in the recovery console"
	}
	fmt.Fprintf(w, "next boot    %s\n", next)
	if r.GetPending() != "" {
		fmt.Fprintf(w, "request      %s; carried out by: ratchetctl power reboot\n", r.GetPending())
	}
	if r.GetOutcome() != "" {
		fmt.Fprintf(w, "last request %s\n", r.GetOutcome())
	}
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func (a *App) recovery(ctx context.Context) (*apipb.ShowRecoveryReply, error) {
	c, err := a.Client()
	if err != nil {
		return nil, err
	}
	return c.Recovery.Show(ctx, &apipb.ShowRecoveryRequest{})
}

func (a *App) recoveryEnter() *cobra.Command {
	var reboot bool
	cmd := &cobra.Command{
		Use: "enter", Short: "Make the next boot stop in the recovery console, once",
		Long: "Make the next boot stop in the recovery console, once. The console is on the serial port; when nobody\n" +
			"types for ten minutes the boot goes on.",
		Example: "  ratchetctl recovery enter --reboot",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.Client()
			if err != nil {
				return err
			}
			if _, err := c.Recovery.Enter(cmd.Context(), &apipb.EnterRecoveryRequest{}); err != nil {
				return err
			}
			if !reboot {
				a.say("the next boot stops in the recovery console: ratchetctl power reboot")
				return nil
			}
			if _, err := c.System.Power(cmd.Context(), &apipb.PowerRequest{Action: apipb.PowerAction_POWER_ACTION_REBOOT}); err != nil {
				return err
			}
			a.say("the box restarts and stops in the recovery console, on its serial port")
			return nil
		},
	}
	cmd.Flags().BoolVar(&reboot, "reboot", false, "restart the box now")
	return cmd
}

func (a *App) recoveryRequest() *cobra.Command {
	return &cobra.Command{
		Use: "request FILE", Short: "Leave a signed request for the next boot",
		Long: "Leave a signed request for the next boot, which carries it out before the hardware is released and\n" +
			"records the outcome. FILE is what \"recovery sign\" printed, - for standard input.",
		Example: "  ratchetctl recovery request validate.request\n  ratchetctl power reboot",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readRequest(args[0])
			if err != nil {
				return err
			}
			c, err := a.Client()
			if err != nil {
				return err
			}
			reply, err := c.Recovery.Request(cmd.Context(), &apipb.RecoveryRequest{Text: text})
			if err != nil {
				return err
			}
			return a.show(reply, func(w io.Writer) {
				fmt.Fprintf(w, "the next boot will %s, signed by owner key %s: ratchetctl power reboot\n", reply.GetWhat(), reply.GetSigner())
			})
		},
	}
}

func (a *App) readRequest(name string) (string, error) {
	in := a.In
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("read request: %w", err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, request.MaxText+1))
	if err != nil {
		return "", fmt.Errorf("read request: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (a *App) recoverySign() *cobra.Command {
	var key, box string
	var counter uint64
	cmd := &cobra.Command{
		Use: "sign KIND [DEVICE]", Short: "Sign a request with the owner's key",
		Long: "Sign a request with the owner's key and print it. KIND is one of\n\n" +
			"  validate [DEVICE]  release what is proven good: the box, or one device\n" +
			"  recover DEVICE     take a device as it is, admit it, or forget it when it is gone\n" +
			"  accept             take the box as it is, where no recovery key is needed for that\n" +
			"  factory-reset      destroy keys, data and configuration\n" +
			"  provision          the one-use token that provisions a new box\n\n" +
			"A request is for one box and one value of its counter. Without --box and --counter both are asked of\n" +
			"the box. The private key stays where it is: only the request goes to the box.",
		Example: "  ratchetctl recovery sign validate --key owner.key > validate.request\n" +
			"  ratchetctl recovery sign provision --box 000b… --counter 1 --key owner.key",
		Args:      cobra.RangeArgs(1, 2),
		ValidArgs: []string{"validate", "recover", "accept", "factory-reset", "provision"},
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return usage(errors.New("whose request is it? name the owner's private key with --key"))
			}
			r := request.Request{Kind: request.Kind(args[0]), Box: box, Counter: counter}
			if len(args) == 2 {
				r.Device = args[1]
			}
			named, counted := cmd.Flags().Changed("box"), cmd.Flags().Changed("counter")
			if named != counted {
				return usage(errors.New("give both --box and --counter, or neither to ask the box"))
			}
			if !named {
				reply, err := a.recovery(cmd.Context())
				if err != nil {
					return err
				}
				r.Box, r.Counter = reply.GetBox(), reply.GetCounter()
			}
			signer, err := ownerKey(key)
			if err != nil {
				return err
			}
			s, err := request.Sign(signer, r)
			if err != nil {
				return usage(err)
			}
			fmt.Fprintln(a.Out, s.Text())
			return nil
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "the owner's private key, an ECDSA P-256 key in PEM")
	cmd.Flags().StringVar(&box, "box", "", "name of the box, as \"recovery show\" or the recovery console shows it")
	cmd.Flags().Uint64Var(&counter, "counter", 0, "value of its counter")
	must(cmd.MarkFlagFilename("key"))
	return cmd
}

// ownerKey reads a private key in PKCS #8 or SEC 1 form.
func ownerKey(path string) (crypto.Signer, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read owner key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("read owner key: %s is not PEM", path)
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read owner key %s: %w", path, err)
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read owner key %s: not a signing key", path)
	}
	return s, nil
}
